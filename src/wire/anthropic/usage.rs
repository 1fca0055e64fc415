//! Token counts, as Anthropic writes them: the caches are counted beside the input, not inside it (CONVERSION 7).

use crate::wire::Memory;
use crate::wire::event::Usage;
use crate::wire::json::{Cursor, JsonError, Kind, Writer};

/// Reads a `usage` object, or null. What is no whole number is unknown, not an error: answers are worth more than
/// their bills.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Usage, JsonError> {
    let mut usage = Usage::default();
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(usage);
    }
    let mut five_minutes = None;
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.decode().as_ref() {
            "input_tokens" => usage.input = cursor.any_u64()?,
            "cache_read_input_tokens" => usage.cache_read = cursor.any_u64()?,
            "cache_creation_input_tokens" => usage.cache_write = cursor.any_u64()?,
            "cache_creation" => {
                five_minutes = member(&mut cursor.clone(), "ephemeral_5m_input_tokens")?;
                usage.cache_write_1h = member(cursor, "ephemeral_1h_input_tokens")?;
            }
            "output_tokens" => usage.output = cursor.any_u64()?,
            "output_tokens_details" => usage.reasoning = member(cursor, "thinking_tokens")?,
            // server_tool_use, service_tier, iterations, …: no other format counts them.
            _ => {
                cursor.skip()?;
            }
        }
    }
    if usage.cache_write.is_none() && five_minutes.or(usage.cache_write_1h).is_some() {
        usage.cache_write = Some(five_minutes.unwrap_or(0).saturating_add(usage.cache_write_1h.unwrap_or(0)));
    }
    Ok(usage)
}

/// What is shown where the upstream has not counted its input, or never does: context meters read this count and zero
/// would break them, so a guess stands in for it.
pub(super) fn shown(usage: &Usage, memory: &Memory) -> Usage {
    Usage { input: usage.input.or(Some(memory.input_estimate)), ..*usage }
}

/// Writes the usage of a message. Every count that the type requires is there; what the upstream did not say of its
/// caches is null, which is not zero.
pub(super) fn write(usage: &Usage, w: &mut Writer<'_>) {
    w.object().key("input_tokens").int(usage.input.unwrap_or(0));
    caches(usage, w);
    if let Some(hour) = usage.cache_write_1h {
        let rest = usage.cache_write.unwrap_or(hour).saturating_sub(hour);
        w.key("cache_creation").object();
        w.key("ephemeral_5m_input_tokens").int(rest).key("ephemeral_1h_input_tokens").int(hour).end_object();
    }
    output(usage, w);
    w.end_object();
}

/// Writes the usage of a `message_delta`, whose type is smaller.
pub(super) fn write_delta(usage: &Usage, w: &mut Writer<'_>) {
    w.object();
    if let Some(input) = usage.input {
        w.key("input_tokens").int(input);
    }
    caches(usage, w);
    output(usage, w);
    w.end_object();
}

fn caches(usage: &Usage, w: &mut Writer<'_>) {
    for (key, count) in
        [("cache_creation_input_tokens", usage.cache_write), ("cache_read_input_tokens", usage.cache_read)]
    {
        match count {
            Some(n) => w.key(key).int(n),
            None => w.key(key).null(),
        };
    }
}

fn output(usage: &Usage, w: &mut Writer<'_>) {
    w.key("output_tokens").int(usage.output.unwrap_or(0));
    if let Some(thinking) = usage.reasoning {
        w.key("output_tokens_details").object().key("thinking_tokens").int(thinking).end_object();
    }
}

/// One count out of an object of them.
fn member(cursor: &mut Cursor<'_>, name: &str) -> Result<Option<u64>, JsonError> {
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(None);
    }
    let mut found = None;
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        let value = cursor.skip()?;
        if key.is(name) {
            found = value.as_u64();
        }
    }
    Ok(found)
}
