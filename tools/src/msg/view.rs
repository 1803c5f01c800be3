//! How one message is shown: as JSON with everything it has, as a page, or as a line.

use std::borrow::Cow;

use basaltmq::StoredMessage;
use serde::{Serialize, Serializer};

use crate::{
    Context,
    error::Failure,
    output::{Format, printable},
    time::{clock_time, stamp},
};

/// A message as JSON has it.
#[derive(Serialize)]
struct View<'a> {
    topic: &'a str,
    broker: &'a str,
    queue: i32,
    offset: i64,
    id: String,
    offset_id: String,
    tag: Option<&'a str>,
    keys: Vec<&'a str>,
    properties: Pairs<'a>,
    stored_ms: i64,
    store_host: String,
    born_ms: i64,
    born_host: String,
    log_offset: i64,
    record_bytes: usize,
    flag: i32,
    sys_flag: i32,
    reconsume_times: i32,
    /// Of a body that is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// Of any other body.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// Properties, written as a JSON object in their order.
struct Pairs<'a>(&'a StoredMessage);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.properties())
    }
}

impl<'a> View<'a> {
    fn new(message: &'a StoredMessage) -> Self {
        let body = std::str::from_utf8(message.body()).ok();
        Self {
            topic: message.topic(),
            broker: message.queue().broker(),
            queue: message.queue().id(),
            offset: message.queue_offset(),
            id: message.id(),
            offset_id: message.offset_id(),
            tag: message.tag(),
            keys: message.keys().collect(),
            properties: Pairs(message),
            stored_ms: message.store_timestamp_ms(),
            store_host: message.store_host().to_string(),
            born_ms: message.born_timestamp_ms(),
            born_host: message.born_host().to_string(),
            log_offset: message.log_offset(),
            record_bytes: message.record_bytes(),
            flag: message.flag(),
            sys_flag: message.sys_flag(),
            reconsume_times: message.reconsume_times(),
            body,
            body_base64: body.is_none().then(|| base64(message.body())),
        }
    }
}

/// Shows everything of a message.
pub(crate) fn show(message: &StoredMessage, context: &mut Context) -> Result<(), Failure> {
    let view = View::new(message);
    let mut pairs = vec![
        ("topic", view.topic.to_owned()),
        ("queue", format!("{}/{}", view.broker, view.queue)),
        ("offset", view.offset.to_string()),
        ("id", view.id.clone()),
        ("offset id", view.offset_id.clone()),
        ("stored", format!("{} by {}", stamp(view.stored_ms), view.store_host)),
        ("born", format!("{} at {}", stamp(view.born_ms), view.born_host)),
        ("log offset", format!("{}, {} bytes", view.log_offset, view.record_bytes)),
        ("flags", format!("{}, system {}", view.flag, view.sys_flag)),
        ("reconsumed", format!("{} times", view.reconsume_times)),
    ];
    let mut label = "properties";
    for (name, value) in message.properties() {
        pairs.push((label, format!("{name} = {value}")));
        label = "";
    }
    context.output.object(&pairs, &view)?;
    if context.output.format() == Format::Table {
        let stored_as_is = if message.body_is_readable() { "" } else { ", compressed and damaged" };
        context
            .output
            .line(&format!("body        {} bytes{stored_as_is}", message.body().len()))?;
        for line in String::from_utf8_lossy(message.body()).split('\n') {
            context.output.line(&printable(line))?;
        }
    }
    Ok(())
}

/// Shows a message in one line.
pub(crate) fn show_line(message: &StoredMessage, context: &mut Context) -> Result<(), Failure> {
    match context.output.format() {
        Format::Json => context.output.json(&View::new(message))?,
        Format::Table => context.output.line(&line(message))?,
    }
    Ok(())
}

fn line(message: &StoredMessage) -> String {
    let mut line = format!(
        "{}  {}/{} #{}",
        clock_time(message.store_timestamp_ms()),
        printable(message.queue().broker()),
        message.queue().id(),
        message.queue_offset()
    );
    let keys: Vec<_> = message.keys().collect();
    let notes = [("tag", message.tag().unwrap_or_default()), ("key", &keys.join(" "))];
    for (name, value) in notes.iter().filter(|(_, value)| !value.is_empty()) {
        line.push_str(&format!("  {name}={}", printable(value)));
    }
    let body: Cow<'_, str> = String::from_utf8_lossy(message.body());
    line.push_str("  ");
    line.push_str(&printable(&body));
    line
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for sextet in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * sextet) & 63).unwrap_or_default();
            let digit = ALPHABET.get(index).copied().map_or('=', char::from);
            text.push(if sextet > u32::try_from(chunk.len()).unwrap_or(3) { '=' } else { digit });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfb]), "//77");
    }
}
