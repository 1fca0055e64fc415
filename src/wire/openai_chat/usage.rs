//! Token counts. OpenAI's include what the caches did; the waist's do not (CONVERSION 7).

use crate::wire::event::Usage;
use crate::wire::json::{Cursor, JsonError, Kind, Writer};

/// The numbers as they are told; providers leave out, null and move all of them.
#[derive(Debug, Default)]
struct Counts {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    reasoning: Option<u64>,
    /// Mistral's total holds what was heard, and nothing else does.
    has_audio: bool,
}

/// Reads a `usage` value; what is no object counts nothing.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Option<Usage>, JsonError> {
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(None);
    }
    let mut counts = Counts::default();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.decode().as_ref() {
            "prompt_tokens" => counts.prompt = cursor.any_u64()?,
            "completion_tokens" => counts.completion = cursor.any_u64()?,
            "total_tokens" => counts.total = cursor.any_u64()?,
            "prompt_tokens_details" => details(cursor, &mut counts)?,
            "completion_tokens_details" => details(cursor, &mut counts)?,
            "prompt_audio_seconds" => counts.has_audio = cursor.any_u64()?.is_some_and(|seconds| seconds != 0),
            // DeepSeek; Mistral; Together and Moonshot.
            "prompt_cache_hit_tokens" | "num_cached_tokens" | "cached_tokens" => {
                counts.cache_read = cursor.any_u64()?.or(counts.cache_read);
            }
            // Costs, speeds and sums of other things.
            _ => {
                cursor.skip()?;
            }
        }
    }
    let usage = counts.exclusive();
    Ok((!usage.is_empty()).then_some(usage))
}

/// Reads the `usage` of an object that is not the answer itself.
pub(super) fn inside(cursor: &mut Cursor<'_>) -> Result<Option<Usage>, JsonError> {
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(None);
    }
    let mut found = None;
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if key.is("usage") {
            found = read(cursor)?.or(found);
        } else {
            cursor.skip()?;
        }
    }
    Ok(found)
}

fn details(cursor: &mut Cursor<'_>, counts: &mut Counts) -> Result<(), JsonError> {
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(());
    }
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.decode().as_ref() {
            "cached_tokens" => counts.cache_read = cursor.any_u64()?.or(counts.cache_read),
            "cache_write_tokens" => counts.cache_write = cursor.any_u64()?,
            "reasoning_tokens" => counts.reasoning = cursor.any_u64()?,
            // Parts by medium, and predictions: parts of counts that are taken whole. Numbers, nearly all.
            _ => {
                cursor.any_u64()?;
            }
        }
    }
    Ok(())
}

impl Counts {
    fn exclusive(&self) -> Usage {
        let cached = self.cache_read.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        let output = match (self.prompt, self.completion, self.total) {
            // xAI and Gemini leave the reasoning out of the completion but not out of the total.
            (Some(prompt), Some(completion), Some(total)) if !self.has_audio => {
                Some(completion.max(total.saturating_sub(prompt)))
            }
            (_, completion, _) => completion,
        };
        Usage {
            input: self.prompt.map(|prompt| prompt.saturating_sub(cached)),
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            cache_write_1h: None,
            output,
            reasoning: self.reasoning,
        }
    }
}

/// Writes a `usage` object.
pub(super) fn write(usage: &Usage, w: &mut Writer<'_>) {
    let prompt = usage.input_total();
    let completion = usage.output.unwrap_or(0);
    w.object();
    w.key("prompt_tokens").int(prompt);
    w.key("completion_tokens").int(completion);
    w.key("total_tokens").int(prompt.saturating_add(completion));
    if usage.cache_read.is_some() || usage.cache_write.is_some() {
        w.key("prompt_tokens_details").object();
        w.key("cached_tokens").int(usage.cache_read.unwrap_or(0));
        if let Some(written) = usage.cache_write {
            w.key("cache_write_tokens").int(written);
        }
        w.end_object();
    }
    if let Some(reasoning) = usage.reasoning {
        w.key("completion_tokens_details").object().key("reasoning_tokens").int(reasoning).end_object();
    }
    w.end_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(usage: &str, expect: [Option<u64>; 5]) {
        let got = read(&mut Cursor::new(usage)).unwrap().unwrap_or_default();
        let fields = [got.input, got.cache_read, got.cache_write, got.output, got.reasoning];
        assert_eq!(fields, expect, "{usage}");
    }

    #[test]
    fn ec59_cached_tokens_are_taken_out_of_the_input() {
        check(
            r#"{"prompt_tokens":100,"completion_tokens":7,"total_tokens":107,"prompt_tokens_details":{"cached_tokens":75}}"#,
            [Some(25), Some(75), None, Some(7), None],
        );
    }

    #[test]
    fn ec60_more_cached_than_prompted_is_no_input() {
        check(
            r#"{"prompt_tokens":12,"prompt_tokens_details":{"cached_tokens":128}}"#,
            [Some(0), Some(128), None, None, None],
        );
    }

    #[test]
    fn ec61_reasoning_outside_the_completion_is_output() {
        check(
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":215,"completion_tokens_details":{"reasoning_tokens":200}}"#,
            [Some(10), None, None, Some(205), Some(200)],
        );
    }

    #[test]
    fn reads_what_providers_call_it() {
        check(r#"{"prompt_tokens":9,"prompt_cache_hit_tokens":4}"#, [Some(5), Some(4), None, None, None]);
        check(r#"{"prompt_tokens":9,"completion_tokens":null}"#, [Some(9), None, None, None, None]);
        check(r#"{"prompt_tokens":9,"prompt_tokens_details":null,"cost":0.1}"#, [Some(9), None, None, None, None]);
        check("null", [None; 5]);
    }
}
