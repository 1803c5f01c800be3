//! Sending one message whose body is an argument.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use basaltmq::{Message, Producer, SendReceipt};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;

use super::lines;
use crate::{
    Context,
    error::Failure,
    output::{Align, Row},
};

/// Producers have a group; brokers show it in their connection lists.
const GROUP: &str = "mqtool";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where to
    #[arg(short, long)]
    topic: String,
    /// The message, byte for byte; `-` makes a message of every line of standard input
    ///
    /// Lines are sent without their line feed and otherwise as they are, UTF-8 or not. RocketMQ
    /// has no messages without a body: empty lines are skipped, and their number is said on
    /// standard error. Lines travel in batches that go to one queue each.
    body: OsString,
    /// A key to find the message by; may be repeated
    #[arg(short, long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// The tag that consumers filter by
    #[arg(long)]
    tag: Option<String>,
    /// A property; may be repeated
    #[arg(short, long = "property", value_name = "NAME=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE, neither of them empty".to_owned()),
    }
}

/// Everything about a message but its body.
pub(super) struct Template {
    pub(super) topic: String,
    keys: Vec<String>,
    tag: Option<String>,
    properties: Vec<(String, String)>,
}

impl Template {
    /// A message with this body.
    pub(super) fn message(&self, body: impl Into<Bytes>) -> Message {
        let mut message = Message::new(self.topic.as_str(), body);
        for key in &self.keys {
            message = message.key(key.as_str());
        }
        for (name, value) in &self.properties {
            message = message.property(name.as_str(), value.as_str());
        }
        match &self.tag {
            Some(tag) => message.tag(tag.as_str()),
            None => message,
        }
    }
}

pub(super) async fn run(arguments: Arguments, context: &mut Context) -> Result<(), Failure> {
    let Arguments { topic, body, keys, tag, properties } = arguments;
    let template = Template { topic, keys, tag, properties };
    let client = context.client().await?;
    // The timeout bounds a try of one send; a line that fails is tried again like any other.
    let producer: Producer = client.producer(GROUP).send_timeout(context.timeout()).build().await?;
    if body == "-" {
        lines::run(&template, &producer, context).await?;
    } else {
        let receipt = producer.send(template.message(body.into_vec())).await?;
        context.output.rows(&[Stored::new(&receipt)])?;
    }
    client.close().await;
    Ok(())
}

/// Where a message was stored.
#[derive(Serialize)]
pub(super) struct Stored<'a> {
    topic: &'a str,
    broker: &'a str,
    queue: i32,
    offset: i64,
    id: &'a str,
    offset_id: &'a str,
    status: &'static str,
}

impl<'a> Stored<'a> {
    pub(super) fn new(receipt: &'a SendReceipt) -> Self {
        Self {
            topic: receipt.queue().topic(),
            broker: receipt.queue().broker(),
            queue: receipt.queue().id(),
            offset: receipt.queue_offset(),
            id: receipt.id(),
            offset_id: receipt.offset_id(),
            status: receipt.status().name(),
        }
    }
}

impl Row for Stored<'_> {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("TOPIC", Align::Left),
        ("BROKER", Align::Left),
        ("QUEUE", Align::Right),
        ("OFFSET", Align::Right),
        ("ID", Align::Left),
        ("OFFSET ID", Align::Left),
        ("STATUS", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.to_owned(),
            self.broker.to_owned(),
            self.queue.to_string(),
            self.offset.to_string(),
            self.id.to_owned(),
            self.offset_id.to_owned(),
            self.status.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        for wrong in ["a", "a=", "=b", ""] {
            assert!(pair(wrong).is_err(), "{wrong:?}");
        }
    }
}
