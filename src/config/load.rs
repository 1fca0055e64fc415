//! The story of loading: texts → checked files → providers → routes → table, and everything that is wrong.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashSet;
use ring::digest::{Context, SHA256};
use serde::de::DeserializeOwned;

use crate::config::bounds::Bounds;
use crate::config::clients::{self, Client};
use crate::config::compile::{Compile, Providers, names_of, on_lossy, terms};
use crate::config::diagnostic::{Diagnostic, Place, Report, Severity};
use crate::config::env::Env;
use crate::config::graph::Graph;
use crate::config::lookup::{self, Kind, Lookup, Root, Text};
use crate::config::passage;
use crate::config::prices;
use crate::config::provider::Spec;
use crate::config::proxy;
use crate::config::schema::{self, Schema};
use crate::config::source::{ModelFile, Num, ProviderFile, ServerFile};
use crate::route::keys::Registry;
use crate::route::table::{Model, Route, Table};

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    pub table: Arc<Table>,
    /// The server's own limits.
    pub bounds: Bounds,
    /// Who may ask; without any a key is made at the start.
    pub clients: Vec<Client>,
    /// Warnings and notes about the files.
    pub diagnostics: Vec<Diagnostic>,
    /// What the files ask of the environment and do not find there: keys, variables.
    pub missing: Vec<Diagnostic>,
    pub root: Root,
    /// By name.
    pub providers: Vec<ProviderSummary>,
    /// The file each model is in, by the model's name.
    pub files: Vec<(Box<str>, Arc<str>)>,
    /// Routes without a key, and the variables one was looked for in.
    pub unkeyed: Vec<(Arc<Route>, Vec<String>)>,
}

/// A provider, for lists.
#[derive(Clone, Debug)]
pub struct ProviderSummary {
    pub name: Box<str>,
    pub display: Box<str>,
    pub enabled: bool,
    /// It needs no key.
    pub keyless: bool,
    /// How many keys were found.
    pub keys: usize,
    /// The keys that were found: variables and fingerprints.
    pub found: Vec<(Box<str>, String)>,
    /// Where they are looked for.
    pub patterns: Vec<String>,
    /// The models one of whose routes leads there.
    pub used_by_models: Vec<Box<str>>,
}

/// A file that was read, and where it is.
#[derive(Debug)]
pub(crate) struct Sourced<T> {
    pub(crate) place: Place,
    pub(crate) value: T,
    pub(crate) packaged: bool,
    pub(crate) stem: String,
}

/// Loads everything. `Err`: at least one finding is an error; all findings are in it.
///
/// Prices are asked for when something is told: what is wrong with them keeps nobody from being served, and is a warning.
pub fn load(env: &Env, lookup: &Lookup, registry: &Registry) -> Result<Loaded, Vec<Diagnostic>> {
    compiled(env, lookup, registry, Severity::Warning)
}

/// The same for who checks files: there an error in the prices is one.
pub fn validate(env: &Env, lookup: &Lookup, registry: &Registry) -> Result<Loaded, Vec<Diagnostic>> {
    compiled(env, lookup, registry, Severity::Error)
}

/// `prices`: how bad a finding about them may be.
fn compiled(env: &Env, lookup: &Lookup, registry: &Registry, prices: Severity) -> Result<Loaded, Vec<Diagnostic>> {
    let mut report = Report::default();
    let cooldown = environment(env, &mut report);
    let texts = lookup::texts(lookup, &mut report);
    let (providers, models) = read(&texts, &mut report);
    let own: Vec<Sourced<ServerFile>> = read_all(&texts, Kind::Server, schema::SERVER, &mut report);
    let bounds = Bounds::new(own.first().map(|file| &file.value), env, &mut report);
    prices::validate(&texts, prices, &mut report);
    let specs = providers.into_iter().map(|p| Spec::new(p, env, registry, &mut report)).collect();
    let providers = Providers::new(specs, &mut report);
    let models: Vec<Sourced<ModelFile>> = models.into_iter().filter(|m| is_wanted(m, &providers)).collect();
    let (missing, unkeyed) = (Report::default(), Vec::new());
    let mut compile = Compile { env, registry, providers: &providers, cooldown, report, missing, unkeyed };
    let own = models.iter().map(|m| compile.ways(m, None)).collect();
    let graph = Graph::new(&models, own, &mut compile.report);
    graph.check(&mut compile.report);
    let compiled: Vec<Arc<Model>> =
        models.iter().enumerate().map(|(i, m)| Arc::new(model(&m.value, graph.routes(i, &mut compile)))).collect();
    let direct = direct(&mut compile);
    let Compile { mut report, mut missing, unkeyed, .. } = compile;
    let table = Table::new(compiled.clone(), hash(&texts)).with_direct(direct);
    let clients =
        clients::compile(read_all(&texts, Kind::Client, schema::CLIENT, &mut report), &table, env, &mut report);
    if report.has_errors() {
        return Err(report.sorted());
    }
    idle(&models, &compiled, &providers, &mut missing);
    let summaries = summaries(&providers, &compiled);
    Ok(Loaded {
        files: models.iter().map(|m| (m.value.logical_name.as_str().into(), Arc::clone(&m.place.file))).collect(),
        table: Arc::new(table),
        clients,
        bounds,
        diagnostics: report.sorted(),
        missing: missing.sorted(),
        root: lookup.root.clone(),
        providers: summaries,
        unkeyed,
    })
}

/// Checks what is asked of the environment, and says how long keys rest where no file says: `KEY_COOLDOWN_SECONDS`.
fn environment(env: &Env, report: &mut Report) -> Duration {
    const NAME: &str = "KEY_COOLDOWN_SECONDS";
    for (file, line) in env.unread() {
        let pointer = line.map_or_else(String::new, |l| l.to_string());
        let place = Place { pointer, ..Place::file(&file.display().to_string()) };
        report.warn(&place, "is no assignment and is left out").hint("put values with spaces into quotes");
    }
    proxy::check(env, report);
    match env.text(NAME).map(Num::parse) {
        None => COOLDOWN,
        Some(Some(seconds)) => seconds.seconds(),
        Some(None) => {
            let place = Place { pointer: NAME.to_owned(), ..Place::file("environment") };
            report.warn(&place, "is not a number of seconds").hint(format!("{} are used", COOLDOWN.as_secs()));
            COOLDOWN
        }
    }
}

/// How long a failing key rests where nothing says otherwise (the seed's code; its README said 300).
const COOLDOWN: Duration = Duration::from_secs(180);

/// Checks all files against their schemas.
fn read(texts: &[Text], report: &mut Report) -> (Vec<Sourced<ProviderFile>>, Vec<Sourced<ModelFile>>) {
    let providers = read_all(texts, Kind::Provider, schema::PROVIDER, report);
    let mut models: Vec<Sourced<ModelFile>> = read_all(texts, Kind::Model, schema::MODEL, report);
    // A file named alone stands in for the packaged model of that name.
    let own: AHashSet<String> =
        models.iter().filter(|m| !m.packaged).flat_map(|m| names_of(&m.value)).map(str::to_owned).collect();
    models.retain(|m| !m.packaged || !own.contains(&m.value.logical_name));
    (providers, models)
}

/// Whether a model is to be served: a packaged one is not where its provider was switched off.
fn is_wanted(model: &Sourced<ModelFile>, providers: &Providers) -> bool {
    let serves = |name: &str| providers.find(name).is_some_and(Spec::is_enabled);
    !model.packaged || model.value.model_routings.iter().flatten().any(|r| serves(&r.provider))
}

fn read_all<T: DeserializeOwned>(texts: &[Text], kind: Kind, schema: &str, report: &mut Report) -> Vec<Sourced<T>> {
    // Its schema is not compiled for nothing: that takes longer than to read a file.
    if !texts.iter().any(|text| text.kind == kind) {
        return Vec::new();
    }
    let schema = match Schema::compile(schema) {
        Ok(schema) => schema,
        Err(error) => {
            report.error(&Place::file("the compiled-in schema"), error);
            return Vec::new();
        }
    };
    let read = texts.iter().filter(|t| t.kind == kind).filter_map(|text| {
        let place = Place::file(&text.name);
        let value = schema.read(&text.text, &place, report)?;
        Some(Sourced { place, value, packaged: text.packaged, stem: text.stem.clone() })
    });
    read.collect()
}

fn model(file: &ModelFile, routes: Box<[Arc<Route>]>) -> Model {
    Model {
        name: file.logical_name.as_str().into(),
        aliases: file.aliases.iter().flatten().map(|a| a.as_str().into()).collect(),
        display_name: file.display_name.as_deref().map(Into::into),
        routes,
        on_lossy: on_lossy(file),
        rewrite_model: file.rewrite_model.unwrap_or(false),
        terms: terms(file),
    }
}

/// The models that stand for whole providers. What there is to say of a provider was said before.
fn direct(compile: &mut Compile<'_>) -> Vec<Arc<Model>> {
    let (said, missed, unkeyed) = (compile.report.found.len(), compile.missing.found.len(), compile.unkeyed.len());
    let providers = compile.providers;
    let sources = providers.all.iter().filter_map(|spec| {
        let value = passage::direct(spec)?;
        Some(Sourced { place: spec.place.clone(), value, packaged: spec.packaged, stem: spec.stem.clone() })
    });
    let models = sources.map(|source| {
        let routes = compile.ways(&source, None).into_iter().map(|way| way.route).collect();
        Arc::new(model(&source.value, routes))
    });
    let models = models.collect();
    compile.report.found.truncate(said);
    compile.missing.found.truncate(missed);
    compile.unkeyed.truncate(unkeyed);
    models
}

/// Warns of own models that no key serves. The packaged ones are there to be picked from.
fn idle(sources: &[Sourced<ModelFile>], models: &[Arc<Model>], providers: &Providers, missing: &mut Report) {
    for (source, model) in sources.iter().zip(models).filter(|(s, _)| !s.packaged) {
        if model.routes.iter().any(|r| !r.keys.is_empty()) {
            continue;
        }
        let place = source.place.at("model_routings");
        let entries = source.value.model_routings.iter().flatten();
        let mut wanted: Vec<String> =
            entries.flat_map(|e| providers.variables(e)).filter(|name| !name.contains("{INDEX}")).collect();
        wanted.dedup();
        let found = missing.warn(&place, "no route has a key, so every request will fail");
        if !wanted.is_empty() {
            found.hint(format!("set {}", wanted.join(" or ")));
        }
    }
}

fn summaries(providers: &Providers, models: &[Arc<Model>]) -> Vec<ProviderSummary> {
    let mut all: Vec<ProviderSummary> = providers
        .all
        .iter()
        .map(|spec| {
            let uses = |m: &&Arc<Model>| m.routes.iter().any(|r| Arc::ptr_eq(&r.provider, &spec.provider));
            let keyless = spec.header.is_none();
            ProviderSummary {
                name: spec.name().into(),
                display: spec.provider.display_name.clone(),
                enabled: spec.is_enabled(),
                keyless,
                keys: if keyless { 0 } else { spec.keys.len() },
                found: spec
                    .keys
                    .iter()
                    .filter_map(|k| Some((k.name.clone(), k.secret.as_ref()?.fingerprint())))
                    .collect(),
                patterns: if keyless { Vec::new() } else { spec.patterns() },
                used_by_models: models.iter().filter(uses).map(|m| m.name.clone()).collect(),
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// A digest of all texts: equal files, equal hash.
fn hash(texts: &[Text]) -> String {
    let mut context = Context::new(&SHA256);
    for text in texts {
        // Lengths keep two files from reading like one.
        for part in [&text.stem, &text.text] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
    }
    let digest = context.finish();
    data_encoding::HEXLOWER.encode(digest.as_ref().get(..HASH_BYTES).unwrap_or_default())
}

/// So much of the digest tells configurations apart and can still be read out.
const HASH_BYTES: usize = 8;
