//! A guess at how many input tokens a request is, where the upstream cannot be asked, or has not answered yet.
//!
//! Text is counted by its bytes, images and documents by their vendors' rules and not by the base64 they come in, tools
//! with what a vendor tells its model about them. No tokenizer: each model has its own, and most are not published. How
//! far the guesses are off is measured on recorded requests by `tests/estimate.rs`.

mod media;

use crate::wire::Format;
use crate::wire::json::{Cursor, JsonError, JsonStr, Kind};
use crate::wire::tokens::media::Media;

/// Guesses the input tokens of a request of any format, for an upstream that speaks `upstream`. Text that is no
/// request at all is counted as text; it is never nothing.
#[must_use]
pub fn estimate(request: &str, upstream: Format) -> u64 {
    let mut tally = Tally { rules: rules(upstream), ascii: 0, other: 0, tokens: 0 };
    if tally.request(request).is_err() {
        tally = Tally { rules: rules(upstream), ascii: 0, other: 0, tokens: 0 };
        tally.text(request);
    }
    tally.total().max(1)
}

/// Guesses the tokens of plain text.
#[must_use]
pub fn estimate_text(text: &str) -> u64 {
    let mut tally = Tally { rules: rules(Format::OpenaiChat), ascii: 0, other: 0, tokens: 0 };
    tally.text(text);
    tally.total().max(1)
}

/// Bytes that are no ASCII in a token: one Chinese character, one and a half Cyrillic letters.
const OTHER_BYTES: u64 = 3;

/// What a vendor adds to the text.
#[derive(Debug)]
struct Rules {
    /// Bytes of ASCII in two tokens: English has nine or ten, code and JSON six.
    ascii_bytes: u64,
    /// For every request, and for every message.
    request: u64,
    message: u64,
    /// Once, if there are tools: what the model is told about using them.
    tools: u64,
    /// For every tool, beside its own text.
    tool: u64,
    /// For every call and every result, beside its own text.
    call: u64,
    /// Once, if the answer is to follow a schema.
    schema: u64,
    media: fn(Media) -> u64,
}

/// Anthropic: a prompt of its own for tools (its documentation lists 159 to 530 tokens by model, "Tool use pricing";
/// newer models have been recorded with more), and XML around every tool, call and result.
const ANTHROPIC: Rules = Rules {
    ascii_bytes: 7,
    request: 3,
    message: 4,
    tools: 390,
    tool: 30,
    call: 40,
    schema: 120,
    media: media::anthropic,
};

const OPENAI_CHAT: Rules =
    Rules { ascii_bytes: 8, request: 3, message: 4, tools: 12, tool: 8, call: 8, schema: 8, media: media::openai };

fn rules(upstream: Format) -> &'static Rules {
    match upstream {
        Format::OpenaiChat | Format::OpenaiResponses => &OPENAI_CHAT,
        Format::Anthropic => &ANTHROPIC,
    }
}

/// What has been counted so far.
#[derive(Debug)]
struct Tally {
    rules: &'static Rules,
    /// Bytes of text.
    ascii: u64,
    other: u64,
    /// Everything that is no text, in tokens already.
    tokens: u64,
}

impl Tally {
    fn total(&self) -> u64 {
        self.tokens + self.ascii * 2 / self.rules.ascii_bytes + self.other / OTHER_BYTES
    }

    fn text(&mut self, text: &str) {
        let other = text.bytes().filter(|b| !b.is_ascii()).count() as u64;
        self.other += other;
        self.ascii += text.len() as u64 - other;
    }

    fn request(&mut self, request: &str) -> Result<(), JsonError> {
        self.tokens += self.rules.request;
        let mut cursor = Cursor::new(request);
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match key.decode().as_ref() {
                "messages" => self.messages(&mut cursor)?,
                "system" => self.content(&mut cursor, "", "")?,
                "tools" | "functions" => self.tools(&mut cursor)?,
                // A schema for the answer is told to the model.
                "output_config" | "output_format" | "response_format" => self.format(&mut cursor)?,
                // Settings, and the names of things.
                _ => drop(cursor.skip()?),
            }
        }
        cursor.end()
    }

    fn messages(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        if cursor.peek()? != Kind::Array {
            return self.whole(cursor);
        }
        cursor.array()?;
        while cursor.item()? {
            self.tokens += self.rules.message;
            self.content(cursor, "", "")?;
        }
        Ok(())
    }

    fn tools(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        if cursor.peek()? != Kind::Array {
            return self.whole(cursor);
        }
        cursor.array()?;
        let mut first = true;
        while cursor.item()? {
            if std::mem::take(&mut first) {
                self.tokens += self.rules.tools;
            }
            self.tokens += self.rules.tool;
            self.whole(cursor)?;
        }
        Ok(())
    }

    fn format(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        let json = cursor.skip()?;
        if json.as_str().contains("\"schema\"") {
            self.tokens += self.rules.schema;
            self.text(json.as_str());
        }
        Ok(())
    }

    /// Counts all there is as the model reads it: schemas and arguments are shown to it as they are.
    fn whole(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        self.text(cursor.skip()?.as_str());
        Ok(())
    }

    /// Counts what a message says. `key` is what it is called, `within` what the object around it is called.
    fn content(&mut self, cursor: &mut Cursor<'_>, key: &str, within: &str) -> Result<(), JsonError> {
        match cursor.peek()? {
            Kind::Str => {
                let text = cursor.str()?;
                self.string(&text, key, within);
            }
            Kind::Array => {
                cursor.array()?;
                while cursor.item()? {
                    self.content(cursor, key, within)?;
                }
            }
            Kind::Object => {
                cursor.object()?;
                while let Some(name) = cursor.key()? {
                    match name.decode().as_ref() {
                        // How things are told apart, and what only the vendor can read.
                        "type" | "role" | "id" | "media_type" | "format" | "detail" | "cache_control" | "signature"
                        | "encrypted_content" | "encrypted_index" | "filename" => drop(cursor.skip()?),
                        "tool_use_id" | "tool_call_id" | "arguments" | "input" => {
                            self.tokens += self.rules.call;
                            self.whole(cursor)?;
                        }
                        name => self.content(cursor, name, key)?,
                    }
                }
            }
            Kind::Num | Kind::Bool | Kind::Null => drop(cursor.skip()?),
        }
        Ok(())
    }

    fn string(&mut self, text: &JsonStr<'_>, key: &str, within: &str) {
        let media = match (key, within) {
            ("data" | "file_data", _) => media::of_base64(&text.decode()),
            ("image_url", _) | ("url", "image_url" | "source") => Some(media::of_url(&text.decode())),
            // A file kept at the vendor's.
            ("file_id", _) => Some(Media::Image(None)),
            _ => None,
        };
        match media {
            Some(media) => self.tokens += (self.rules.media)(media),
            None => self.text(text.literal()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: &str, expect: [u64; 2]) {
        let of = |upstream| estimate(request, upstream);
        assert_eq!([of(Format::OpenaiChat), of(Format::Anthropic)], expect, "{request}");
    }

    #[test]
    fn counts_what_a_model_reads() {
        check(r#"{"model":"m","messages":[{"role":"user","content":"12345678"}]}"#, [9, 9]);
        // Settings and names of things are not read.
        check(
            r#"{"model":"mmmmmmmmmmm","metadata":{"user_id":"xxxxxxxxxxxxxxxx"},"messages":[{"role":"user","content":[{"type":"text","text":"12345678","cache_control":{"type":"ephemeral"}}]}]}"#,
            [9, 9],
        );
        // Three bytes a character.
        check("{\"messages\":[{\"role\":\"user\",\"content\":\"\u{6c49}\u{5b57}\"}]}", [9, 9]);
        check(r#"{"system":"1234","messages":[]}"#, [4, 4]);
    }

    #[test]
    fn images_are_counted_by_rule_and_not_by_their_base64() {
        let png = "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAYAAAB".to_owned() + &"A".repeat(4001);
        for block in [
            format!(r#"{{"type":"image","source":{{"data":"{png}","media_type":"image/png","type":"base64"}}}}"#),
            format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{png}"}}}}"#),
        ] {
            check(&format!(r#"{{"messages":[{{"role":"user","content":[{block}]}}]}}"#), [772, 1406]);
        }
        let elsewhere = r#"{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}"#;
        check(&format!(r#"{{"messages":[{{"role":"user","content":[{elsewhere}]}}]}}"#), [772, 1607]);
        let sealed = format!(r#"{{"type":"redacted_thinking","data":"{}"}}"#, "A".repeat(4000));
        check(&format!(r#"{{"messages":[{{"role":"assistant","content":[{sealed}]}}]}}"#), [7, 7]);
        let plain = r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"one two."}}"#;
        check(&format!(r#"{{"messages":[{{"role":"user","content":[{plain}]}}]}}"#), [9, 9]);
    }

    #[test]
    fn what_is_no_request_is_counted_as_text() {
        check("", [1, 1]);
        check("12345678", [2, 2]);
        check(r#"{"messages":[{"role":"user","content":"#, [9, 10]);
        check(&"[".repeat(4000), [1000, 1142]);
        check(r#"{"messages":7,"tools":"none","system":null}"#, [4, 5]);
    }

    #[test]
    fn tools_are_counted_with_what_the_vendor_says_of_them() {
        let with = |tools: &str| format!(r#"{{"messages":[],"tools":[{tools}]}}"#);
        let tool = r#"{"name":"f","input_schema":{"type":"object"}}"#;
        let [none, one, two] = [String::new(), tool.to_owned(), format!("{tool},{tool}")].map(|tools| with(&tools));
        for upstream in Format::ALL {
            let [none, one, two] = [&none, &one, &two].map(|request| estimate(request, upstream));
            assert!(none < one && one < two && two - one < one - none, "{none} {one} {two}");
        }
    }
}
