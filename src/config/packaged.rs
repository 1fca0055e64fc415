//! The configuration that is compiled in.
//!
//! The list is written by hand, for a build script would be one more thing to understand; a test holds it against the
//! directory.

use crate::config::lookup::{Kind, Text};

/// What stands for the directory of these files where people read it.
pub(crate) const ROOT: &str = "built-in";

/// The model that answers by itself.
const DEMO: &str = "demo";

/// One compiled-in file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) kind: Kind,
    /// Its name without `.json`.
    stem: &'static str,
    text: &'static str,
}

impl File {
    /// Whether it stays beneath a directory that has models of its own.
    pub(crate) fn is_always_there(&self) -> bool {
        self.kind == Kind::Provider || self.stem == DEMO
    }

    pub(crate) fn text(&self) -> Text {
        let directory = match self.kind {
            Kind::Provider => "providers",
            Kind::Model => "models",
            // None is shipped: whose keys would they be, what it would say are the defaults, and prices are read elsewhere.
            Kind::Client | Kind::Server | Kind::Prices => "",
        };
        Text {
            kind: self.kind,
            name: format!("{ROOT}/{directory}/{}.json", self.stem),
            stem: self.stem.to_owned(),
            text: self.text.to_owned(),
            packaged: true,
        }
    }
}

/// The packaged models that stand for all models of one of these providers: (file's name, text).
pub fn wildcards(providers: &[String]) -> impl Iterator<Item = (&'static str, &'static str)> {
    let leads_to = |file: &&File| {
        let routes = file.text.split("\"model_routings\"").nth(1).unwrap_or_default();
        let first = routes.split("\"provider\": \"").nth(1).and_then(|rest| rest.split('"').next());
        first.is_some_and(|first| providers.iter().any(|provider| provider == first))
    };
    let is_wildcard = |file: &&File| file.kind == Kind::Model && file.stem.starts_with("any-");
    FILES.iter().filter(is_wildcard).filter(leads_to).map(|file| (file.stem, file.text))
}

macro_rules! provider {
    ($stem:literal) => {
        File {
            kind: Kind::Provider,
            stem: $stem,
            text: include_str!(concat!("../../config/providers/", $stem, ".json")),
        }
    };
}

macro_rules! model {
    ($stem:literal) => {
        File { kind: Kind::Model, stem: $stem, text: include_str!(concat!("../../config/models/", $stem, ".json")) }
    };
}

pub(crate) const FILES: &[File] = &[
    provider!("anthropic"),
    provider!("azure"),
    provider!("cerebras"),
    provider!("chutes"),
    provider!("cloudflare"),
    provider!("deepseek"),
    provider!("demo"),
    provider!("fireworks"),
    provider!("gemini"),
    provider!("github"),
    provider!("groq"),
    provider!("llama"),
    provider!("lmstudio"),
    provider!("longcat"),
    provider!("mistral"),
    provider!("nahcrof"),
    provider!("ollama"),
    provider!("openai"),
    provider!("openrouter"),
    provider!("together"),
    provider!("vllm"),
    provider!("xai"),
    provider!("zai"),
    model!("any-anthropic"),
    model!("any-azure"),
    model!("any-cerebras"),
    model!("any-chutes"),
    model!("any-claude"),
    model!("any-cloudflare"),
    model!("any-deepseek"),
    model!("any-fireworks"),
    model!("any-gemini"),
    model!("any-github"),
    model!("any-gpt"),
    model!("any-groq"),
    model!("any-llama"),
    model!("any-lmstudio"),
    model!("any-longcat"),
    model!("any-mistral"),
    model!("any-nahcrof"),
    model!("any-ollama"),
    model!("any-openai"),
    model!("any-openrouter"),
    model!("any-text-embedding"),
    model!("any-together"),
    model!("any-vllm"),
    model!("any-xai"),
    model!("any-zai"),
    model!("claude-fable-5"),
    model!("claude-haiku-4-5"),
    model!("claude-opus-4-7"),
    model!("claude-opus-4-8"),
    model!("claude-sonnet-4-5"),
    model!("claude-sonnet-4-6"),
    model!("deepseek-chat"),
    model!("deepseek-reasoner"),
    model!("demo"),
    model!("gpt-4.1"),
    model!("gpt-4o-mini"),
    model!("gpt-4o"),
    model!("gpt-5-mini"),
    model!("gpt-5.4"),
    model!("gpt-5.5"),
    model!("gpt-5"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_directory_is_in_the_list() {
        for (kind, name) in [(Kind::Provider, "config/providers"), (Kind::Model, "config/models")] {
            let mut there: Vec<String> = std::fs::read_dir(name)
                .unwrap()
                .map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            there.sort();
            let mut listed: Vec<&str> = FILES.iter().filter(|f| f.kind == kind).map(|f| f.stem).collect();
            listed.sort_unstable();
            assert_eq!(listed, there);
        }
    }
}
