//! Ids, seals and names of grouped tools.

use crate::wire::json::JsonStr;
use crate::wire::names::{sha256_hex, token};
use crate::wire::prompt::ENVELOPE;

/// What comes before the id and the encrypted content of a reasoning item, where it travels as a signature: `mp1.r.ID.CONTENT`.
/// It begins as every seal of ours does, so whoever else it is sent to knows that no vendor of his vouches for it.
const ITEM: &str = "mp1.r.";

/// What comes before another vendor's signature, where it travels as encrypted content; and before thinking that was redacted.
const SIGNED: &str = "mp1.a.";
const REDACTED: &str = "mp1.d.";

/// A reasoning item's own id and encrypted content, as a signature.
pub(super) fn seal_item(id: &JsonStr<'_>, content: &JsonStr<'_>) -> JsonStr<'static> {
    let mut sealed = JsonStr::quoted(ITEM);
    // No id of theirs has a dot, and what has one needs none.
    if !id.literal().contains('.') {
        sealed.push(id);
    }
    sealed.push(&JsonStr::quote("."));
    sealed.push(content);
    sealed
}

/// The encrypted content in a signature, if a Responses upstream made it.
pub(super) fn item_of(signature: &JsonStr<'_>) -> Option<JsonStr<'static>> {
    let (_, content) = signature.literal().strip_prefix(ITEM)?.split_once('.')?;
    (!content.is_empty()).then(|| JsonStr::spelled(content.to_owned()))
}

/// What encrypted content is, where it comes back from a client.
pub(super) enum Seal<'a> {
    /// Another vendor's signature of the text beside it.
    Signature(JsonStr<'a>),
    /// Another vendor's redacted thinking.
    Redacted(JsonStr<'a>),
    /// A Responses upstream's own.
    Item,
    /// Nobody vouches for it.
    Ours,
}

pub(super) fn unsealed(content: &JsonStr<'_>) -> Seal<'static> {
    let literal = content.literal();
    let rest = |prefix: &str| literal.strip_prefix(prefix).map(|rest| JsonStr::spelled(rest.to_owned()));
    match (rest(SIGNED), rest(REDACTED)) {
        (Some(signature), _) => Seal::Signature(signature),
        (_, Some(data)) => Seal::Redacted(data),
        (None, None) if literal.starts_with(ENVELOPE) => Seal::Ours,
        (None, None) => Seal::Item,
    }
}

/// A signature as encrypted content: the upstream's own as it was, another vendor's under its mark. `None`: nobody vouches
/// for it.
pub(super) fn content_of(signature: &JsonStr<'_>) -> Option<JsonStr<'static>> {
    if let Some(content) = item_of(signature) {
        return Some(content);
    }
    (!signature.is_empty() && !signature.literal().starts_with(ENVELOPE)).then(|| marked(SIGNED, signature))
}

/// The mark of thinking that no vendor has sealed.
pub(super) fn unvouched(text: &JsonStr<'_>) -> JsonStr<'static> {
    JsonStr::quoted(&format!("{ENVELOPE}{}", token(text.literal().as_bytes(), 16)))
}

pub(super) fn redacted(data: &JsonStr<'_>) -> JsonStr<'static> {
    marked(REDACTED, data)
}

fn marked(mark: &str, text: &JsonStr<'_>) -> JsonStr<'static> {
    let mut marked = JsonStr::quoted(mark);
    marked.push(text);
    marked
}

/// An id that the format's own begin so: the upstream's stays visible in it.
pub(super) fn id(prefix: &str, upstream: Option<&JsonStr<'_>>, seed: u64, index: u64) -> String {
    match upstream.filter(|id| !id.is_empty()) {
        Some(id) => {
            let text = id.decode();
            let own = ["msg_", "chatcmpl-", "resp_"].iter().find_map(|other| text.strip_prefix(other)).unwrap_or(&text);
            format!("{prefix}{own}")
        }
        None => {
            let mut of = seed.to_le_bytes().to_vec();
            of.extend_from_slice(&index.to_le_bytes());
            of.extend_from_slice(prefix.as_bytes());
            format!("{prefix}{}", token(&of, 29))
        }
    }
}

/// A call's id as the format takes it: at most 64 letters.
pub(super) fn call_id<'i>(id: &'i JsonStr<'i>) -> JsonStr<'i> {
    let text = id.decode();
    if text.len() <= CALL_ID_MAX {
        return id.borrow();
    }
    JsonStr::quoted(&format!("call_{}", sha256_hex(&text).get(..48).unwrap_or_default()))
}

const CALL_ID_MAX: usize = 64;

/// A tool of a group, under one name: `group__tool`.
pub(super) fn flat(namespace: Option<&JsonStr<'_>>, name: &JsonStr<'_>) -> JsonStr<'static> {
    match namespace.filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => JsonStr::quoted(&format!("{}__{}", namespace.decode(), name.decode())),
        None => name.borrow().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_comes_out_as_it_was() {
        let (id, content) = (JsonStr::quote("rs_1"), JsonStr::quote("gAAA+/=="));
        let sealed = seal_item(&id, &content);
        assert_eq!(sealed.literal(), "mp1.r.rs_1.gAAA+/==");
        assert_eq!(item_of(&sealed), Some(content.clone()));
        assert_eq!(content_of(&sealed), Some(content));
        let theirs = JsonStr::quote("EqQBCkY=");
        let carried = content_of(&theirs).unwrap();
        assert!(matches!(unsealed(&carried), Seal::Signature(signature) if signature == theirs));
        assert!(matches!(unsealed(&redacted(&theirs)), Seal::Redacted(data) if data == theirs));
        assert!(matches!(unsealed(&JsonStr::quote("gAAA")), Seal::Item));
        assert!(matches!(unsealed(&JsonStr::quote("mp1.x")), Seal::Ours));
        for nobody in ["", "mp1.0123", "mp1.r.x."] {
            assert_eq!(content_of(&JsonStr::quote(nobody)), None, "{nobody}");
        }
    }
}
