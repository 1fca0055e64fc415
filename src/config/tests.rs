//! The room as a whole: files in, table or findings out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::env::Env;
use super::lookup::is_ours;
use super::*;
use crate::route::keys::Registry;
use crate::route::table::{Action, Address, Route};
use crate::wire::Format;

/// A directory of its own, gone when dropped.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("model-proxy-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&dir.0).unwrap();
        for (name, text) in files {
            let path = dir.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Loads a directory; findings name files relative to it. With it comes what stands before their names otherwise.
fn load_files(files: &[(&str, &str)], vars: &[(&str, &str)]) -> Result<(Loaded, String), Vec<String>> {
    let dir = Dir::new(files);
    let env = Env::of(vars.iter().copied());
    let lookup = Lookup::find(Some(Path::new(&dir.0)), &env).unwrap();
    let prefix = dir.0.display().to_string();
    match load(&env, &lookup, &Registry::default()) {
        Ok(loaded) => Ok((loaded, prefix)),
        Err(found) => Err(found.iter().map(|d| relative(&d.to_string(), &prefix)).collect()),
    }
}

#[test]
fn the_shipped_files_have_no_findings() {
    let env = Env::default();
    let loaded = load(&env, &Lookup::default(), &Registry::default()).unwrap();
    let said: Vec<String> = loaded.diagnostics.iter().chain(&loaded.missing).map(ToString::to_string).collect();
    assert!(said.is_empty(), "{said:#?}");
    assert!(20 <= loaded.table.len(), "{} models", loaded.table.len());
    assert!(loaded.table.resolve("demo").is_some_and(|m| m.model.routes.iter().any(|r| !r.keys.is_empty())), "demo");
}

fn relative(line: &str, directory: &str) -> String {
    line.replace(&format!("{directory}/"), "").replace(directory, ".")
}

/// A directory with these files has just these findings, in this order. `…` at an end stands for the rest of a line.
#[track_caller]
fn check(files: &[(&str, &str)], expect: &[&str]) {
    let found = match load_files(files, &[]) {
        Ok((loaded, prefix)) => loaded.diagnostics.iter().map(|d| relative(&d.to_string(), &prefix)).collect(),
        Err(found) => found,
    };
    let fits = |line: &String, expect: &&str| match expect.strip_suffix('…') {
        Some(start) => line.starts_with(start),
        None => line == expect,
    };
    let all = found.len() == expect.len() && found.iter().zip(expect).all(|(line, expect)| fits(line, expect));
    assert!(all, "found {found:#?}, expected {expect:#?}");
}

const README_EXAMPLE: &str = r#"{
  "logical_name": "gpt-5.2",
  "timeout_seconds": 60,
  "model_routings": [
    {
      "provider": "openai",
      "model": "gpt-5.2"
    },
    {
      "provider": "azure",
      "model": "gpt-5.2"
    }
  ],
  "fallback_model_routings": ["gpt-5.1"]
}"#;

#[test]
fn the_seeds_example_loads() {
    check(
        &[("models/gpt-5-2.json", README_EXAMPLE)],
        &[
            "models/gpt-5-2.json:/fallback_model_routings/0: warning: no model \"gpt-5.1\" (did you mean \"gpt-5.2\"?): this fallback is left out; take it out, or add a file for it",
        ],
    );
    let vars = [("OPENAI_API_KEY", "sk-1"), ("AZURE_AI_ENDPOINT", "https://me.example/openai/v1")];
    let (loaded, _) = load_files(&[("models/gpt-5-2.json", README_EXAMPLE)], &vars).unwrap();
    let model = loaded.table.resolve("gpt-5.2").unwrap().model;
    let routes: Vec<(String, usize)> = model.routes.iter().map(|r| (r.label().to_string(), r.keys.len())).collect();
    assert_eq!(routes, [("openai/gpt-5.2".to_owned(), 1), ("azure/gpt-5.2".to_owned(), 0)]);
}

#[test]
fn ten_faults_are_ten_findings() {
    check(
        &[
            (
                "models/a.json",
                r#"{"logical_name":"a","modle_routings":[],"timeout_seconds":"soon","on_lossy":"reprot","model_routings":[
                    {"provider":"opneai","model":"x","wire_protocol":"anthropc"},
                    {"model":"y","provider":7},
                    "openai"]}"#,
            ),
            ("models/b.json", "{\n  \"logical_name\": \"b\",\n}"),
            (
                "providers/c.json",
                r#"{"name":"c","endpoints":{"base_url":"example.com"},"error_handling":{"4xx":{"action":"provider_cooldown"}},"error_rules":[{"scope":"keys","status":403},{"scope":"key"}]}"#,
            ),
        ],
        &[
            "models/a.json:/timeout_seconds: must be a number above 0, not \"soon\"",
            "models/a.json:/on_lossy: \"reprot\" is none of report, reject, silent (did you mean \"report\"?)",
            "models/a.json:/model_routings/0/wire_protocol: \"anthropc\" is none of openai, openai_chat, openai_responses, anthropic (did you mean \"anthropic\"?)",
            "models/a.json:/model_routings/1/provider: must be a string, not a number",
            "models/a.json:/model_routings/2: must be an object, not a string",
            "models/a.json:/modle_routings: unknown field \"modle_routings\" (did you mean \"model_routings\"?)",
            "models/a.json:/model_routings/0/provider: no provider \"opneai\" (did you mean \"openai\"?); name one…",
            "models/b.json:3:1: is not JSON: trailing comma",
            "providers/c.json:/error_handling/4xx: \"4xx\" cannot stand here; what can: HTTP statuses, such as 429",
            "providers/c.json:/error_rules/0/scope: \"keys\" is none of request, key, key_model, route, provider (did you mean \"key\"?)",
            "providers/c.json:/error_rules/1: needs \"status\" or \"body_contains\"",
            "providers/c.json:/endpoints/base_url: \"example.com\" must begin with https:// or http://",
        ],
    );
}

#[test]
fn a_password_in_a_base_url_is_refused_and_not_shown() {
    let provider = r#"{"name":"c","endpoints":{"base_url":"https://me:secret@example.com/v1"}}"#;
    check(
        &[("providers/c.json", provider)],
        &["providers/c.json:/endpoints/base_url: \"https://…@example.com\" must not hold a user or a password"],
    );
}

#[test]
fn each_kind_of_finding_has_its_weight() {
    let to_openai = r#"[{"provider":"openai","model":"x"}]"#;
    let model = |name: &str, routes: &str, more: &str| {
        format!(r#"{{"logical_name":"{name}","model_routings":{routes}{more}}}"#)
    };
    let one = |text: String, expect: &str| check(&[("models/a.json", &text)], &[expect]);
    one(model("a", "[]", ""), "models/a.json:/model_routings: there is no route, and no fallback has one; add a route");
    one(
        model("a", r#"[{"provider":"openai","model":"x"},{"provider":"openai","model":"x","timeout_seconds":5}]"#, ""),
        "models/a.json:/model_routings/1: warning: is never tried: it is the same as /model_routings/0; take it out…",
    );
    one(
        model("a", r#"[{"provider":"openai","model":"*"}]"#, ""),
        "models/a.json:/model_routings/0/model: the * in \"*\" stands for nothing…",
    );
    one(
        model("a", to_openai, r#","aliases":["b","a"]"#),
        "models/a.json:/aliases/1: warning: \"a\" is named twice in this file",
    );
    one(
        model("a", to_openai, r#","fallback_model_routings":["a"]"#),
        "models/a.json:/fallback_model_routings/0: warning: the fallbacks run in a circle: a → a;…",
    );
    one(model("", to_openai, ""), "models/a.json:/logical_name: must not be empty");
    one(
        model("a", to_openai, r#","defaults":{"model":"x"}"#),
        "models/a.json:/defaults/model: \"model\" cannot stand here; what can: any request fields but model…",
    );
    one(
        model("a", to_openai, r#","defaults":{"input":"x"}"#),
        "models/a.json:/defaults/input: \"input\" cannot stand here; what can: any request fields but model…",
    );
    one(
        model("a", to_openai, r#","capabilities":{"imagse":true}"#),
        "models/a.json:/capabilities/imagse: unknown field \"imagse\" (did you mean \"images\"?)",
    );
    one(model("a", to_openai, r#","zzzz":1"#), "models/a.json:/zzzz: unknown field \"zzzz\"; there are logical_name,…");
    one("[]".to_owned(), "models/a.json: must be an object, not a list");
    let (a, b) = (model("a", to_openai, ""), model("b", to_openai, r#","aliases":["a"]"#));
    check(
        &[("models/1.json", &a), ("models/2.json", &b)],
        &["models/2.json:/aliases/0: \"a\" is in models/1.json already;…"],
    );
    let off = r#"{"name":"openai","enabled":false,"endpoints":{"base_url":"https://a.example"}}"#;
    check(
        &[("models/a.json", &a), ("providers/openai.json", off)],
        &[
            "models/a.json:/model_routings/0/provider: warning: the provider \"openai\" is not enabled: this route is left out;…",
        ],
    );
    check(&[("models/a.json", &model("a", to_openai, r#","x-note":1,"_why":"…","id":"old""#))], &[]);
    check(&[("models/.keep", "")], &["models: warning: there is no model; add a file for one"]);
    check(&[("other/x.json", "")], &[".: holds nothing that is read; put models/*.json into it"]);
}

#[test]
fn what_has_no_effect_is_said() {
    let provider = r#"{"name":"p","endpoints":{"base_url":"https://a.example","completions":"/x","streaming":"/y"},
        "request_config":{"default_parameters":{"temperature":1},"max_retries":3,"retry_on_status":[429]},
        "rate_limiting":{"enabled":false,"requests_per_minute":null}}"#;
    let model = r#"{"logical_name":"m","model_routings":[{"provider":"p","model":"x"}]}"#;
    check(
        &[("models/m.json", model), ("providers/p.json", provider)],
        &[
            "providers/p.json:/request_config/default_parameters: note: has no effect, as it had none in the seed; fields to be set where the client did not set them go into \"defaults\" beside it",
            "providers/p.json:/request_config/max_retries: note: has no effect…",
            "providers/p.json:/request_config/retry_on_status: note: has no effect…",
            "providers/p.json:/endpoints/streaming: warning: has no effect, though it differs from completions;…",
        ],
    );
}

#[test]
fn what_is_said_of_formats_has_to_fit_together() {
    let needs = r#"[{"provider":"p","model":"x","capabilities":{"tools_need_responses_api":true}}]"#;
    let usual = r#"[{"provider":"p","model":"x"}]"#;
    for (api, endpoints, routes, found) in [
        ("responses", r#""compatible_format":"openai""#, usual, &[][..]),
        ("responses", r#""compatible_format":"openai_responses""#, needs, &[]),
        ("chat", r#""responses":"/responses""#, needs, &[]),
        (
            "responses",
            r#""compatible_format":"anthropic""#,
            usual,
            &["providers/p.json:/api: warning: has no effect: endpoints.compatible_format says anthropic;…"],
        ),
        (
            "responses",
            r#""completions":"/chat/completions""#,
            usual,
            &[
                "providers/p.json:/endpoints: warning: requests in openai_responses go to /chat/completions, where others…",
            ],
        ),
        (
            "chat",
            r#""compatible_format":"openai""#,
            needs,
            &["models/m.json:/model_routings/0/capabilities/tools_need_responses_api: warning: leads nowhere: the pr…"],
        ),
        (
            "messages",
            r#""compatible_format":"anthropic""#,
            needs,
            &["models/m.json:/model_routings/0/capabilities/tools_need_responses_api: warning: has no effect: the ro…"],
        ),
    ] {
        let provider =
            format!(r#"{{"name":"p","api":"{api}","endpoints":{{"base_url":"https://a.example",{endpoints}}}}}"#);
        let model = format!(r#"{{"logical_name":"m","model_routings":{routes}}}"#);
        check(&[("models/m.json", &model), ("providers/p.json", &provider)], found);
    }
}

#[test]
fn a_provider_is_found_by_its_name_and_by_its_files() {
    let provider = r#"{"name":"mine","endpoints":{"base_url":"https://a.example"}}"#;
    let by =
        |name: &str| format!(r#"{{"logical_name":"{name}","model_routings":[{{"provider":"{name}","model":"x"}}]}}"#);
    check(
        &[("models/a.json", &by("mine")), ("models/b.json", &by("openai")), ("providers/openai.json", provider)],
        &["providers/openai.json:/name: warning: is named \"mine\", unlike its file; routes find it by either name"],
    );
    let again = r#"{"name":"mine","endpoints":{"base_url":"https://b.example"}}"#;
    check(
        &[("models/a.json", &by("mine")), ("providers/mine.json", provider), ("providers/z.json", again)],
        &[
            "providers/z.json:/name: warning: is named…",
            "providers/z.json:/name: a provider named \"mine\" is in providers/mine.json already; give it another name",
        ],
    );
}

/// What one route of a model is like, with more in the provider's, the model's and the route's file.
#[track_caller]
fn route_of(provider: &str, model: &str, route: &str, vars: &[(&str, &str)]) -> Option<std::sync::Arc<Route>> {
    let provider = format!(r#"{{"name":"p","endpoints":{{"base_url":"https://${{HOST}}/v1"}}{provider}}}"#);
    let model = format!(r#"{{"logical_name":"m","model_routings":[{{"provider":"p","model":"up"{route}}}]{model}}}"#);
    let vars = [&[("HOST", "a.example"), ("P_API_KEY", "k0"), ("P_API_KEY_2", "k2")][..], vars].concat();
    let (loaded, _) = load_files(&[("models/m.json", &model), ("providers/p.json", &provider)], &vars).unwrap();
    loaded.table.resolve("m").unwrap().model.routes.first().cloned()
}

#[test]
fn timeouts_and_cooldowns_come_from_the_nearest_place() {
    let seconds = |provider: &str, model: &str, route: &str, env: &str| {
        let route = route_of(provider, model, route, &[("KEY_COOLDOWN_SECONDS", env)]).unwrap();
        let (times, policy) = (route.timeouts, &route.policy);
        [times.connect, times.first_byte, times.idle, times.total, policy.model_cooldown, policy.key_cooldown]
            .map(|d| d.as_secs())
    };
    let provider = r#","request_config":{"timeout_seconds":"20"},"rate_limiting":{"cooldown_seconds":"40"}"#;
    let with_models = r#","rate_limiting":{"cooldown_seconds":40},"models":{"up":{"cooldown_seconds":" 41 "}}"#;
    let model = r#","timeout_seconds":"30","default_cooldown_seconds":50"#;
    let route = r#","timeout_seconds":2,"cooldown_seconds":"60","total_timeout_seconds":9"#;
    for (provider, model, route, env, expect) in [
        ("", "", "", "", [5, 60, 60, 600, 180, 180]),
        ("", "", "", "70", [5, 60, 60, 600, 70, 70]),
        ("", "", "", "0", [5, 60, 60, 600, 0, 0]),
        ("", "", "", "-1", [5, 60, 60, 600, 0, 0]),
        (provider, "", "", "70", [5, 20, 20, 600, 40, 40]),
        (provider, model, "", "70", [5, 30, 30, 600, 50, 40]),
        (with_models, model, "", "70", [5, 30, 30, 600, 41, 40]),
        (with_models, model, route, "70", [2, 2, 2, 9, 60, 40]),
        ("", r#","timeout_seconds":"900.5""#, r#","cooldown_seconds":0"#, "", [5, 900, 900, 900, 0, 180]),
    ] {
        assert_eq!(seconds(provider, model, route, env), expect, "{provider} {model} {route} {env}");
    }
}

#[test]
fn a_route_is_what_its_files_say() {
    let plain = route_of("", "", "", &[]).unwrap();
    let names = |route: &Route| route.keys.iter().map(|s| s.key.name.to_string()).collect::<Vec<_>>();
    assert_eq!(
        (names(&plain), url(&plain)),
        (vec!["P_API_KEY".into(), "P_API_KEY_2".into()], "https://a.example/v1/chat/completions".into())
    );

    let own = route_of("", "", r#","api_key_env":["B","A","NONE"]"#, &[("A", "1"), ("B", "2")]).unwrap();
    assert_eq!(names(&own), ["B", "A"]);
    let one = route_of("", "", r#","api_key_env":"A""#, &[("A", "1")]).unwrap();
    assert_eq!(names(&one), ["A"]);
    let none = route_of("", "", r#","api_key_env":["NONE"]"#, &[]).unwrap();
    assert!(none.keys.is_empty(), "what a route names is not made up for");
    let readme = route_of(r#","api_key_env_patterns":["K_{INDEX}"]"#, "", "", &[("K_1", "1")]).unwrap();
    assert_eq!(names(&readme), ["K_1"]);
    let free = route_of(r#","authentication":{"type":"none"}"#, "", "", &[]).unwrap();
    assert!(free.keys.len() == 1 && free.keys.iter().all(|s| s.key.header.is_none()), "one slot without a key");

    let over = r#","proxy_support":{"enabled":true,"base_url_override":"https://proxy.example/x/"}"#;
    assert_eq!(url(&route_of(over, "", "", &[]).unwrap()), "https://proxy.example/x/chat/completions");
    let both = route_of(over, "", r#","base_url":"http://own.example:81""#, &[]).unwrap();
    assert_eq!(url(&both), "http://own.example:81/chat/completions");
    assert!(route_of("", "", r#","base_url":"https://${NOPE}/v1""#, &[]).is_none(), "there is nowhere to go");

    let anthropic = route_of("", "", r#","wire_protocol":"anthropic""#, &[]).unwrap();
    assert_eq!((anthropic.format, url(&anthropic)), (Format::Anthropic, "https://a.example/v1/messages".into()));
    assert_eq!(anthropic.headers.get("anthropic-version").unwrap(), "2023-06-01");
    let by_api = route_of(r#","api":"messages""#, "", "", &[]).unwrap();
    assert_eq!(by_api.format, Format::Anthropic);
    let (header, value) = by_api.keys.first().and_then(|s| s.key.header.clone()).unwrap();
    assert_eq!((header.as_str(), value.to_str().unwrap()), ("x-api-key", "k0"));

    let mapped = route_of(r#","model_mapping":{"up":"really-up"}"#, "", "", &[]).unwrap();
    assert_eq!(&**mapped.label(), "p/really-up");
    let rules = r#","error_handling":{"429":{"action":"provider_cooldown","cooldown_seconds":"7"},"400":{"action":"fallback_no_cooldown"}}"#;
    let actions = route_of(rules, "", "", &[]).unwrap().policy.actions.to_vec();
    let week = Duration::from_secs(7);
    assert_eq!(actions, [(400, Action::FallbackNoCooldown, None), (429, Action::ProviderCooldown, Some(week))]);

    let headers =
        r#","authentication":{"header_name":"X-Key","additional_headers":{"A":"${HOST}!","B":"${NOPE}","C":"c"}}"#;
    let route = route_of(headers, "", "", &[]).unwrap();
    let sent: Vec<(&str, &str)> = route.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(sent, [("a", "a.example!"), ("c", "c")]);
    let (header, value) = route.keys.first().and_then(|s| s.key.header.clone()).unwrap();
    assert_eq!((header.as_str(), value.to_str().unwrap()), ("x-key", "k0"));

    let facts = route_of(
        r#","models":{"up":{"capabilities":{"images":false,"pdf":false,"stop":false}}},"request_config":{"defaults":{"a":1,"b":2}},"quirks":{"top_k":true}"#,
        r#","capabilities":{"images":true,"pdf":true},"defaults":{"b":3}"#,
        r#","capabilities":{"images":false},"defaults":{"c":4},"quirks":{"think_tags":true}"#,
        &[],
    )
    .unwrap();
    assert!(
        !facts.capabilities.images && facts.capabilities.pdf && !facts.capabilities.stop,
        "{:?}",
        facts.capabilities
    );
    assert!(facts.quirks.top_k && facts.quirks.think_tags, "{:?}", facts.quirks);
    let defaults: Vec<(&str, &str)> = facts.defaults.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(defaults, [("a", "1"), ("b", "3"), ("c", "4")]);
}

#[test]
fn a_path_for_counting_is_checked_once() {
    let provider = r#"{"name":"c","endpoints":{"base_url":"http://c.example","compatible_format":"anthropic","count_tokens":"/{x}"},"authentication":{"type":"none"}}"#;
    let model = r#"{"logical_name":"a","model_routings":[{"provider":"c","model":"x"},{"provider":"c","model":"y"}]}"#;
    check(
        &[("models/a.json", model), ("providers/c.json", provider)],
        &["providers/c.json:/endpoints/count_tokens: does not make a path; only {model} may stand in braces"],
    );
}

fn url(route: &Route) -> String {
    match &route.address {
        Address::Builtin => "builtin".to_owned(),
        Address::Http { origin, path, .. } => {
            format!("{}://{}{path}", if origin.tls { "https" } else { "http" }, origin.authority())
        }
    }
}

/// The routes of `name` among models given as (name, upstream models, fallbacks).
#[track_caller]
fn routes(models: &[(&str, &str, &str)], name: &str) -> Vec<String> {
    let text =
        |words: &str, each: &dyn Fn(&str) -> String| words.split_whitespace().map(each).collect::<Vec<_>>().join(",");
    let files: Vec<(String, String)> = models
        .iter()
        .enumerate()
        .map(|(n, (name, upstream, fallbacks))| {
            let routings = text(upstream, &|m| format!(r#"{{"provider":"openai","model":"{m}"}}"#));
            let fallbacks = text(fallbacks, &|m| format!("{m:?}"));
            let file = format!(
                r#"{{"logical_name":"{name}","model_routings":[{routings}],"fallback_model_routings":[{fallbacks}]}}"#
            );
            (format!("models/{n}.json"), file)
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let (loaded, _) = load_files(&files, &[]).unwrap();
    let found = loaded.table.resolve(name).unwrap();
    found.model.routes.iter().map(|r| format!("{}<{}", found.upstream_model(r), r.via)).collect()
}

#[test]
fn fallbacks_are_followed_depth_first_and_each_route_once() {
    let diamond = [("a", "1", "b c"), ("b", "2", "d"), ("c", "3", "d"), ("d", "4", "")];
    assert_eq!(routes(&diamond, "a"), ["1<a", "2<b", "4<d", "3<c"]);
    let circle = [("a", "1", "b"), ("b", "2", "a c"), ("c", "3 1", "b")];
    assert_eq!(routes(&circle, "a"), ["1<a", "2<b", "3<c"]);
    assert_eq!(routes(&circle, "c"), ["3<c", "1<c", "2<b"]);
    assert_eq!(routes(&[("a", "", "b"), ("b", "2", "")], "a"), ["2<b"]);
}

#[test]
fn a_star_stands_for_what_was_asked_for() {
    let models =
        [("o/*", "*", "r/*"), ("r/*", "openai/*", ""), ("plain", "x", "o/gpt-4o"), ("claude-*", "claude-*", "")];
    assert_eq!(routes(&models, "o/gpt-4o"), ["gpt-4o<o/*", "openai/gpt-4o<r/*"]);
    assert_eq!(routes(&models, "plain"), ["x<plain", "gpt-4o<o/*", "openai/gpt-4o<r/*"]);
    assert_eq!(routes(&models, "claude-x"), ["claude-x<claude-*"]);
}

#[test]
fn keys_outlive_a_reload_with_their_states() {
    let registry = Registry::default();
    let env = Env::of([("OPENAI_API_KEY", "k")]);
    let states = || {
        let loaded = load(&env, &Lookup::default(), &registry).unwrap();
        let resolved = loaded.table.resolve("gpt-4o").unwrap();
        let slot = resolved.model.routes.first().and_then(|r| r.keys.first()).cloned().unwrap();
        (loaded, slot)
    };
    let ((one, a), (two, b)) = (states(), states());
    assert!(std::sync::Arc::ptr_eq(&a.on_key, &b.on_key) && a.on_model.is_same(&b.on_model), "shared");
    assert_eq!((one.table.hash.len(), &one.table.hash), (16, &two.table.hash));
    let openai = one.providers.iter().find(|p| &*p.name == "openai").unwrap();
    assert!(openai.keys == 1 && openai.used_by_models.iter().any(|m| &**m == "gpt-4o"), "{openai:?}");
}

#[test]
fn the_demo_model_is_always_there() {
    let model = r#"{"logical_name":"m","model_routings":[{"provider":"openai","model":"x"}]}"#;
    let names = |files: &[(&str, &str)]| {
        let (loaded, _) = load_files(files, &[]).unwrap();
        loaded.table.models().map(|m| m.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[("models/m.json", model)]), ["demo", "m"]);
    let off = r#"{"name":"demo","enabled":false,"endpoints":{"base_url":"builtin:demo"}}"#;
    assert_eq!(names(&[("models/m.json", model), ("providers/demo.json", off)]), ["m"], "unless it is switched off");
    assert!(20 < names(&[("providers/demo.json", off)]).len(), "without own models there are the packaged ones");
}

#[test]
fn missing_keys_are_told_apart_from_faults() {
    let model =
        r#"{"logical_name":"m","model_routings":[{"provider":"openai","model":"x"},{"provider":"p","model":"x"}]}"#;
    let provider = r#"{"name":"p","endpoints":{"base_url":"https://${P_HOST}"}}"#;
    let (loaded, prefix) = load_files(&[("models/m.json", model), ("providers/p.json", provider)], &[]).unwrap();
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let missing: Vec<String> = loaded.missing.iter().map(|d| relative(&d.to_string(), &prefix)).collect();
    assert_eq!(
        missing,
        [
            "models/m.json:/model_routings: warning: no route has a key, so every request will fail; set OPENAI_API_KEY or P_API_KEY",
            "providers/p.json:/endpoints/base_url: note: P_HOST is not set: routes there are left out",
        ]
    );
}

#[test]
fn the_directory_is_the_first_there_is() {
    let dir = Dir::new(&[("own/models/.keep", ""), ("xdg/model-proxy/models/.keep", ""), ("empty/.keep", "")]);
    let path = |name: &str| dir.path(name).display().to_string();
    let find = |flag: Option<&str>, vars: &[(&str, String)]| {
        let env = Env::of(vars.iter().map(|(k, v)| (*k, v.clone())));
        Lookup::find(flag.map(Path::new), &env).map(|l| l.root).map_err(|e| e.by)
    };
    let at = |name: &str| Ok(Root::Directory(dir.path(name)));
    let xdg = ("XDG_CONFIG_HOME", path("xdg"));
    assert_eq!(find(Some(&path("own")), &[("MODEL_PROXY_CONFIG", path("none"))]), at("own"));
    assert_eq!(find(Some(&path("none")), &[]), Err("--config"));
    assert_eq!(find(None, &[("MODEL_PROXY_CONFIG", path("none")), xdg.clone()]), Err("MODEL_PROXY_CONFIG"));
    // The tests run where this repository's own ./config is.
    assert_eq!(find(None, &[xdg]), Ok(Root::Directory("config".into())));
}

#[test]
fn one_file_of_ours_makes_a_directory_ours() {
    for (name, text) in [("prices.json", "{}"), ("server.json", r#"{"json_depth": 7}"#), ("clients/.keep", "")] {
        let usual = Dir::new(&[(&format!("model-proxy/{name}"), text)]);
        assert!(is_ours(&usual.path("model-proxy")), "{name} is not passed over in silence");
        let (loaded, _) = load_files(&[(name, text)], &[]).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(
            loaded.table.len(),
            load(&Env::default(), &Lookup::default(), &Registry::default()).unwrap().table.len()
        );
        assert_eq!(loaded.bounds.json_depth == 7, name == "server.json", "{name}");
    }
}

/// Every field of the seed's files, numbers as strings among them.
const SEED_PROVIDER: &str = r#"{
  "name": "p", "display_name": "P", "enabled": true,
  "api_keys": {"env_var_pattern": "{PROVIDER}_API_KEY", "env_var_patterns": ["{PROVIDER}_API_KEY"], "description": "x"},
  "endpoints": {"base_url": "https://a.example/v1", "completions": "/x", "streaming": "/x", "compatible_format": "azure"},
  "authentication": {"type": "azure_key", "header_name": "api-key", "header_format": "{api_key}",
    "additional_headers": {"X-Title": "t"}, "note": "x"},
  "request_config": {"timeout_seconds": "180", "max_retries": "50", "retry_on_status": [429, "500"],
    "default_parameters": {"temperature": null, "n": 1}, "required_parameters": ["max_tokens"]},
  "rate_limiting": {"enabled": false, "requests_per_minute": null, "tokens_per_minute": null, "cooldown_seconds": "600"},
  "models": {"m": {"cooldown_seconds": "30"}},
  "error_handling": {"422": {"action": "auto_fix_tool_responses"}, "429": {"action": "model_key_failure", "cooldown_seconds": "5"}},
  "proxy_support": {"enabled": false, "base_url_override": null, "description": "x"},
  "model_mapping": {"gpt-4": "my-gpt-4"},
  "provider_notes": {"sdk": "x"}
}"#;

const SEED_MODEL: &str = r#"{
  "logical_name": "m", "timeout_seconds": "240", "default_cooldown_seconds": "180", "fallback_model_routings": [],
  "model_routings": [
    {"id": "primary", "provider": "p", "model": "m", "wire_protocol": null, "base_url": null, "api_key_env": null,
     "timeout_seconds": null, "cooldown_seconds": null},
    {"id": "second", "provider": "p", "model": "m", "wire_protocol": "anthropic", "api_key_env": ["A"], "timeout_seconds": "9"}
  ]
}"#;

#[test]
fn every_field_of_the_seed_loads() {
    let files = [("models/m.json", SEED_MODEL), ("providers/p.json", SEED_PROVIDER)];
    let (loaded, _) = load_files(&files, &[("P_API_KEY", "k")]).unwrap();
    assert!(loaded.diagnostics.iter().all(|d| d.severity == Severity::Note), "{:?}", loaded.diagnostics);
    let model = loaded.table.resolve("m").unwrap().model;
    let waits: Vec<u64> = model.routes.iter().map(|r| r.timeouts.first_byte.as_secs()).collect();
    let cools: Vec<u64> = model.routes.iter().map(|r| r.policy.model_cooldown.as_secs()).collect();
    assert_eq!((waits, cools), (vec![240, 9], vec![30, 30]));
}

#[test]
fn a_native_endpoint_is_pointed_out() {
    let provider = r#"{"name":"g","endpoints":{"base_url":"https://g.example/v1beta","completions":"/models/{model}:generateContent","compatible_format":"native"}}"#;
    let model = r#"{"logical_name":"m","model_routings":[{"provider":"g","model":"x"}]}"#;
    check(
        &[("models/m.json", model), ("providers/g.json", provider)],
        &["providers/g.json:/endpoints/completions: warning: leads to a native API, which is not spoken here;…"],
    );
}

#[test]
fn a_file_named_alone_is_checked_among_the_others() {
    let dir = Dir::new(&[
        ("x/gpt-4o.json", r#"{"logical_name":"gpt-4o","model_routings":[{"provider":"openai","model":"mine"}]}"#),
        ("providers/p.json", r#"{"name":"p","endpoints":{"base_url":"nowhere"}}"#),
    ]);
    let check = |names: &[&str]| {
        let lookup = Lookup { root: Root::Packaged, extra: names.iter().map(|n| dir.path(n)).collect() };
        load(&Env::default(), &lookup, &Registry::default())
    };
    let loaded = check(&["x/gpt-4o.json"]).unwrap();
    let model = loaded.table.resolve("gpt-4o").unwrap().model;
    assert_eq!(model.routes.first().map(|r| &**r.label()), Some("openai/mine"), "in place of the packaged one");
    assert_eq!(check(&["providers/p.json"]).map_err(|found| found.len()).err(), Some(1), "read as a provider");
}

#[test]
fn what_is_shown_of_a_model_keeps_its_secrets() {
    let files = [("models/m.json", SEED_MODEL), ("providers/p.json", SEED_PROVIDER)];
    let (loaded, _) =
        load_files(&files, &[("P_API_KEY", "sk-canary-0123456789abcdef"), ("A", "sk-canary-0123456789")]).unwrap();
    let shown = show::model(&loaded.table.resolve("m").unwrap(), &loaded);
    assert!(shown.contains("sk-…cdef") && shown.contains("\"P_API_KEY\"") && !shown.contains("canary"), "{shown}");
    assert!(shown.contains("\"url\": \"https://a.example/v1/messages\""), "{shown}");
}

#[test]
fn a_star_must_stand_for_something_under_every_name() {
    check(
        &[(
            "models/m.json",
            r#"{"logical_name":"m","aliases":["openai/*"],"model_routings":[{"provider":"openai","model":"*"}]}"#,
        )],
        &["models/m.json:/model_routings/0/model: the * in \"*\" stands for nothing; …"],
    );
}

#[test]
fn an_empty_list_of_keys_names_none_of_its_own() {
    let model = r#"{"logical_name":"m","model_routings":[{"provider":"openai","model":"x","api_key_env":[]}]}"#;
    let (loaded, _) = load_files(&[("models/m.json", model)], &[("OPENAI_API_KEY", "sk-1")]).unwrap();
    let keys = loaded.table.resolve("m").and_then(|m| Some(m.model.routes.first()?.keys.len()));
    assert_eq!(keys, Some(1));
    assert!(loaded.missing.is_empty(), "{:?}", loaded.missing);
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    check(
        &[("providers/p.json", r#"{"name":"p","endpoints":{"base_url":"https://u:secret@a.example/v1@x"}}"#)],
        &["providers/p.json:/endpoints/base_url: \"https://…@a.example\" must not hold a user or a password"],
    );
}

/// Prices are read when something is told, and nobody waits for them to be right.
#[test]
fn wrong_prices_are_errors_only_for_who_checks_files() {
    for text in [r#"{"models": {"p/a": {"inptu": 1}}}"#, "{", "[]"] {
        let dir =
            Dir::new(&[("prices.json", text), ("models/m.json", SEED_MODEL), ("providers/p.json", SEED_PROVIDER)]);
        let lookup = Lookup { root: Root::Directory(dir.path("")), extra: Vec::new() };
        let of = |found: &[Diagnostic]| -> Vec<Severity> {
            found.iter().filter(|d| d.file.ends_with("prices.json")).map(|d| d.severity).collect()
        };
        let loaded = load(&Env::default(), &lookup, &Registry::default()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let warned = of(&loaded.diagnostics);
        assert!(warned.contains(&Severity::Warning) && !warned.contains(&Severity::Error), "{text}: {warned:?}");
        let found = validate(&Env::default(), &lookup, &Registry::default()).map(|_| ()).unwrap_err();
        assert!(of(&found).contains(&Severity::Error), "{text}: {found:?}");
    }
}
