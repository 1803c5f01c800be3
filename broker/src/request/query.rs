//! Finding messages: by key or unique id (12) and by log offset (33).

use std::sync::Arc;

use protocol::{
    code::ResponseCode,
    connection::Body,
    frame::Frame,
    limits,
    request::query::{ById, ByKey, Found},
};

use super::reply::{Answer, Handled, Refusal};
use crate::state::{State, blocking};

/// Code 12. An empty answer says how far the index reaches, so that "not there" can be told from
/// "not there yet".
pub(super) async fn by_key(state: Arc<State>, frame: Frame) -> Handled {
    let header = ByKey::decode(&frame.fields)?;
    state.topic(header.topic)?;
    let wanted = usize::try_from(header.max_messages).unwrap_or(0);
    let max = if header.unique_key {
        state.config.query_unique_max_messages
    } else {
        wanted.min(state.config.query_max_messages)
    };
    let end_ms = if header.end_timestamp > 0 { header.end_timestamp } else { i64::MAX };
    let share = state.budget.share(limits::FRAME_MAX_BYTES).await;
    let (store, asked) = (Arc::clone(&state.store), frame.clone());
    let found = blocking(move || {
        let header = ByKey::decode(&asked.fields)?;
        Ok::<_, Refusal>(store.query_key(
            header.topic,
            header.key,
            max,
            header.begin_timestamp,
            end_ms,
        )?)
    })
    .await?;
    let answer = Answer::header(Found {
        index_last_update_timestamp: found.indexed_to_time_ms,
        index_last_update_offset: found.indexed_to.0.cast_signed(),
    });
    if found.records.is_empty() {
        let remark = format!(
            "no message of topic {} with key {:?} stored from {} to {} ms; the index reaches to {} ms",
            header.topic, header.key, header.begin_timestamp, end_ms, found.indexed_to_time_ms
        );
        return Ok(answer.with_code(ResponseCode::QUERY_NOT_FOUND, remark));
    }
    Ok(answer.with_body(Body::Slices(share.spend(found.records))))
}

/// Code 33.
pub(super) async fn by_id(state: Arc<State>, frame: Frame) -> Handled {
    let header = ById::decode(&frame.fields)?;
    Ok(Answer::bytes(state.record_at(header.log_offset).await?))
}
