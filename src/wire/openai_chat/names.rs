//! Names and ids that fit: OpenAI's tool names, ids of tool calls, ids of replies, a user's name.
//!
//! Everything made up here is a function of what it stands for, so that both halves of a pair agree and one
//! conversation means the same bytes every time.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};

use crate::wire::caps::ToolId;
use crate::wire::json::JsonStr;
use crate::wire::names::is_word;
pub(super) use crate::wire::names::{sha256_hex, short_tool_name, token};

/// A reply's id: the upstream's own stays visible in it.
pub(super) fn reply_id(id: Option<&JsonStr<'_>>, seed: u64) -> String {
    match id.filter(|id| !id.is_empty()) {
        Some(id) => {
            let id = id.decode();
            let own = id.strip_prefix("msg_").or_else(|| id.strip_prefix(REPLY_PREFIX)).unwrap_or(&id);
            [REPLY_PREFIX, own].concat()
        }
        None => [REPLY_PREFIX, &token(&seed.to_le_bytes(), 29)].concat(),
    }
}

const REPLY_PREFIX: &str = "chatcmpl-";

/// A call's id as the upstream takes it.
pub(super) fn tool_id<'i>(id: &'i JsonStr<'i>, rule: ToolId) -> JsonStr<'i> {
    match rule {
        ToolId::Any => id.borrow(),
        ToolId::Anthropic => {
            let text = id.decode();
            if !text.is_empty() && text.bytes().all(is_word) {
                return id.borrow();
            }
            let spelled = BASE32_NOPAD.encode(text.as_bytes());
            let own = if spelled.len() <= 55 { spelled } else { token(text.as_bytes(), 32) };
            JsonStr::quoted(&format!("toolu_mp_{own}"))
        }
        ToolId::Mistral9 => {
            let text = id.decode();
            if text.len() == 9 && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return id.borrow();
            }
            JsonStr::quoted(&token(text.as_bytes(), 9))
        }
    }
}

/// A call's id that keeps the signature of the thinking behind the call: clients of other formats have no other place
/// for it, and bring every id back.
pub(super) fn sealed_id(id: &JsonStr<'_>, signature: &JsonStr<'_>) -> JsonStr<'static> {
    let spelled = BASE64URL_NOPAD.encode(signature.decode().as_bytes());
    let mut sealed = id.borrow().into_owned();
    sealed.push(&JsonStr::quote(&format!("{SEAL}{spelled}")));
    sealed
}

/// An id as the upstream knows it, and the signature it kept.
pub(super) fn unsealed<'i>(id: &'i JsonStr<'i>) -> (JsonStr<'i>, Option<JsonStr<'static>>) {
    let kept = id.literal().rsplit_once(SEAL).and_then(|(own, spelled)| {
        let signature = String::from_utf8(BASE64URL_NOPAD.decode(spelled.as_bytes()).ok()?).ok()?;
        Some((JsonStr::spelled(own.to_owned()), JsonStr::quoted(&signature)))
    });
    match kept {
        Some((own, signature)) => (own, Some(signature)),
        None => (id.borrow(), None),
    }
}

/// Stands between an id and the signature it keeps. Anthropic takes such an id as it is.
const SEAL: &str = "_mp_seal_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ec36_long_names_are_cut_and_stay_apart() {
        let long = "a".repeat(70);
        let short = short_tool_name(&long).unwrap();
        assert_eq!((short.len(), short.starts_with(&"a".repeat(55))), (64, true));
        assert_ne!(short_tool_name("a.b"), short_tool_name("a/b"));
        assert_eq!(short_tool_name("plain-name_1"), None);
    }

    #[test]
    fn ec53_mistral_ids_are_nine_letters_and_stable() {
        let id = JsonStr::quote("toolu_01abc");
        let made = tool_id(&id, ToolId::Mistral9);
        assert_eq!((made.literal().len(), made == tool_id(&id, ToolId::Mistral9)), (9, true));
        let own = JsonStr::quote("aB3dE6gH9");
        assert_eq!(tool_id(&own, ToolId::Mistral9), own);
    }

    #[test]
    fn ec21_ids_that_look_alike_stay_apart() {
        let (dot, colon) = (JsonStr::quote("a.b"), JsonStr::quote("a:b"));
        assert_ne!(tool_id(&dot, ToolId::Anthropic), tool_id(&colon, ToolId::Anthropic));
        let fine = JsonStr::quote("call_1");
        assert_eq!(tool_id(&fine, ToolId::Anthropic), fine);
    }

    #[test]
    fn an_id_keeps_a_signature_and_gives_it_back() {
        let (id, seal) = (JsonStr::quote("call_1"), JsonStr::quote(r#"Ab+/=="\"#));
        let sealed = sealed_id(&id, &seal);
        assert!(sealed.literal().bytes().all(is_word), "{sealed:?}");
        assert_eq!(unsealed(&sealed), (id.borrow(), Some(seal)));
        for plain in ["call_1", "", "a_mp_seal_!", "a_mp_seal_gA"] {
            assert_eq!(unsealed(&JsonStr::quote(plain)), (JsonStr::quote(plain), None));
        }
    }

    #[test]
    fn replies_keep_their_id_in_view() {
        assert_eq!(reply_id(Some(&JsonStr::quote("msg_01X")), 1), "chatcmpl-01X");
        assert_eq!(reply_id(Some(&JsonStr::quote("chatcmpl-7")), 1), "chatcmpl-7");
        assert_eq!(reply_id(None, 1), reply_id(None, 1));
        assert_ne!(reply_id(None, 1), reply_id(None, 2));
    }
}
