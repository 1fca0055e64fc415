//! Thinking that an upstream writes into its text, between `<think>` and `</think>`, becomes thinking (CONVERSION 5.2).
//!
//! Only where the configuration says that the provider does so (`think_tags`): elsewhere a text may well begin with
//! these letters and mean them. Stands between a decoder and an encoder, and keeps the grammar:
//!
//! ```text
//! looking ─ "<think>" ─▶ thinking ─ "</think>" ─▶ after ─ text ─▶ plain
//!    └────── any other text ──────────────────────────────────────▶
//! ```

use crate::wire::event::{Delta, Event, Open, Sink};
use crate::wire::json::JsonStr;

/// What has been read of an answer's first text.
#[derive(Clone, Debug, Default)]
pub(super) struct ThinkTags {
    stage: Stage,
    /// Text that may be the beginning of a tag.
    held: String,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    /// No text yet.
    #[default]
    Before,
    /// In the first text block, which the reader has not been told of.
    Looking,
    Thinking,
    /// Behind the tag: no block is open for the reader.
    After,
    /// Nothing more to look for.
    Plain,
}

const OPENING: &str = "<think>";
const CLOSING: &str = "</think>";

impl ThinkTags {
    pub(super) fn event<'a>(&mut self, event: Event<'a>, sink: &mut dyn Sink<'a>) {
        match (self.stage, event) {
            (Stage::Before, Event::Open(Open::Text)) => self.stage = Stage::Looking,
            (Stage::Looking | Stage::Thinking | Stage::After, Event::Delta(Delta::Text(text))) => {
                self.held.push_str(&text.decode());
                self.step(sink);
            }
            (Stage::Looking | Stage::After, Event::Delta(other)) => {
                self.plain(sink);
                sink.event(Event::Delta(other));
            }
            // A citation of what turned out to be no text.
            (Stage::Thinking, Event::Delta(_)) => {}
            (Stage::Looking | Stage::Thinking | Stage::After, Event::Close) => self.close(sink),
            (_, other) => sink.event(other),
        }
    }

    /// Goes as far as the text that is held leads.
    fn step(&mut self, sink: &mut dyn Sink<'_>) {
        if self.stage == Stage::Looking {
            let text = self.held.trim_start();
            if let Some(rest) = text.strip_prefix(OPENING) {
                self.held = rest.to_owned();
                self.stage = Stage::Thinking;
                sink.event(Event::Open(Open::Thinking));
            } else if !OPENING.starts_with(text) {
                return self.plain(sink);
            }
        }
        if self.stage == Stage::Thinking {
            match self.held.split_once(CLOSING) {
                Some((thought, rest)) => {
                    think(thought, sink);
                    self.held = rest.to_owned();
                    self.stage = Stage::After;
                    sink.event(Event::Close);
                }
                None => {
                    let kept = (0..CLOSING.len()).rev().find(|n| self.held.ends_with(CLOSING.get(..*n).unwrap_or("")));
                    let tag = self.held.split_off(self.held.len() - kept.unwrap_or(0));
                    think(&self.held, sink);
                    self.held = tag;
                }
            }
        }
        if self.stage == Stage::After && !self.held.trim_start().is_empty() {
            // The empty lines between thinking and text belong to the tag.
            self.held = self.held.trim_start().to_owned();
            self.plain(sink);
        }
    }

    /// What is held is text, and so is all that follows.
    fn plain(&mut self, sink: &mut dyn Sink<'_>) {
        self.stage = Stage::Plain;
        sink.event(Event::Open(Open::Text));
        if !self.held.is_empty() {
            let text = JsonStr::quoted(&std::mem::take(&mut self.held));
            sink.event(Event::Delta(Delta::Text(text)));
        }
    }

    /// The first text block ends.
    fn close(&mut self, sink: &mut dyn Sink<'_>) {
        match self.stage {
            Stage::Looking => {
                self.plain(sink);
                sink.event(Event::Close);
            }
            Stage::Thinking => {
                think(&std::mem::take(&mut self.held), sink);
                sink.event(Event::Close);
            }
            Stage::Before | Stage::After | Stage::Plain => {}
        }
        self.stage = Stage::Plain;
    }
}

fn think(text: &str, sink: &mut dyn Sink<'_>) {
    if !text.is_empty() {
        sink.event(Event::Delta(Delta::Thinking(JsonStr::quoted(text))));
    }
}
