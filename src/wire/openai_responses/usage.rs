//! Token counts. OpenAI's include what the caches did; the waist's do not (CONVERSION 7).

use crate::wire::event::Usage;
use crate::wire::json::{Cursor, JsonError, Kind, Writer};

/// Reads a `usage` value; what is no object counts nothing.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Option<Usage>, JsonError> {
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(None);
    }
    let mut usage = Usage::default();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.decode().as_ref() {
            "input_tokens" => usage.input = cursor.any_u64()?,
            "output_tokens" => usage.output = cursor.any_u64()?,
            "input_tokens_details" | "output_tokens_details" => details(cursor, &mut usage)?,
            _ => drop(cursor.skip()?),
        }
    }
    let cached = usage.cache_read.unwrap_or(0).saturating_add(usage.cache_write.unwrap_or(0));
    usage.input = usage.input.map(|input| input.saturating_sub(cached));
    Ok((!usage.is_empty()).then_some(usage))
}

fn details(cursor: &mut Cursor<'_>, usage: &mut Usage) -> Result<(), JsonError> {
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(());
    }
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.decode().as_ref() {
            "cached_tokens" => usage.cache_read = cursor.any_u64()?,
            "cache_write_tokens" => usage.cache_write = cursor.any_u64()?,
            "reasoning_tokens" => usage.reasoning = cursor.any_u64()?,
            _ => drop(cursor.skip()?),
        }
    }
    Ok(())
}

/// Writes a `usage` object: clients want every one of these numbers.
pub(super) fn write(usage: &Usage, w: &mut Writer<'_>) {
    let (input, output) = (usage.input_total(), usage.output.unwrap_or(0));
    w.object().key("input_tokens").int(input).key("input_tokens_details").object();
    w.key("cached_tokens").int(usage.cache_read.unwrap_or(0));
    w.key("cache_write_tokens").int(usage.cache_write.unwrap_or(0)).end_object();
    w.key("output_tokens").int(output).key("output_tokens_details").object();
    w.key("reasoning_tokens").int(usage.reasoning.unwrap_or(0)).end_object();
    w.key("total_tokens").int(input.saturating_add(output)).end_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_no_input_here_and_are_there() {
        let text = r#"{"input_tokens":20,"input_tokens_details":{"cached_tokens":8,"cache_write_tokens":2},"output_tokens":5,
            "output_tokens_details":{"reasoning_tokens":3},"total_tokens":25}"#;
        let usage = read(&mut Cursor::new(text)).unwrap().unwrap();
        let numbers = [usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning];
        assert_eq!(numbers, [Some(10), Some(8), Some(2), Some(5), Some(3)]);
        let mut out = Vec::new();
        write(&usage, &mut Writer::new(&mut out));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"input_tokens":20,"input_tokens_details":{"cached_tokens":8,"cache_write_tokens":2},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":25}"#
        );
        assert_eq!(read(&mut Cursor::new("null")).unwrap(), None);
    }
}
