//! Key-value configuration: codes 100, 101, 102 and 219.

use std::sync::Arc;

use protocol::{
    body::kv::KvTable,
    code::ResponseCode,
    connection::Body,
    header::NoFields,
    json,
    request::kv::{Key, Namespace, Put, Value},
};

use super::{Failure, Request, cut};
use crate::kv::ORDER_TOPIC_CONFIG;

pub(super) fn put(request: &Request<'_>) -> Result<(), Failure> {
    let Put { namespace, key, value } = Put::decode(&request.frame.fields)?;
    let generation = request.server.kv.put(namespace, key, value)?;
    changed(request, namespace, key, generation);
    Ok(())
}

pub(super) fn delete(request: &Request<'_>) -> Result<(), Failure> {
    let Key { namespace, key } = Key::decode(&request.frame.fields)?;
    let generation = request.server.kv.delete(namespace, key);
    changed(request, namespace, key, generation);
    Ok(())
}

/// Answers once the change is durable. Memory changed already, in the order of the requests.
fn changed(request: &Request<'_>, namespace: &str, key: &str, generation: u64) {
    let (space, name) = (cut(namespace), cut(key));
    tracing::info!(peer = %request.connection.peer(), ?space, ?name, "key-value configuration changed");
    if namespace == ORDER_TOPIC_CONFIG {
        request.server.table.forget(key);
    }
    let (kv, connection) = (Arc::clone(&request.server.kv), Arc::clone(request.connection));
    let frame = request.frame.clone();
    request.connection.spawn(frame.ticket(), async move {
        match tokio::task::spawn_blocking(move || kv.persist(generation)).await {
            Ok(Ok(())) => {
                let ticket = frame.ticket();
                connection.reply(ticket, ResponseCode::SUCCESS, None, &NoFields, Body::Empty);
            }
            Ok(Err(error)) => Failure::Kv(error).answer(&connection, &frame),
            // Ends this task the same way, so that the request is answered as any that panics.
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    });
}

pub(super) fn get(request: &Request<'_>) -> Result<(), Failure> {
    let Key { namespace, key } = Key::decode(&request.frame.fields)?;
    let value = request
        .server
        .kv
        .get(namespace, key)
        .ok_or_else(|| Failure::NoKey { namespace: cut(namespace), key: cut(key) })?;
    request.reply(&Value { value: Some(value) }, Body::Empty)
}

pub(super) fn list(request: &Request<'_>) -> Result<(), Failure> {
    let Namespace { namespace } = Namespace::decode(&request.frame.fields)?;
    let table = request.server.kv.namespace(namespace);
    let table = table.ok_or_else(|| Failure::NoNamespace { namespace: cut(namespace) })?;
    request.body(json::encode(&KvTable { table }))
}
