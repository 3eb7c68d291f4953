//! Who may import whom: the table of ARCHITECTURE.md, held against the sources.
//!
//! A rule is about the product, so test modules are not looked at. Paths are read from the text of
//! the files: `crate::module`, `crate::{module, ...}`, `partnerd::module` in the binaries, and
//! `crate_name::` for what others wrote. A new top-level module fails until it has its row here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A top-level module and what it may know.
struct Room {
    name: &'static str,
    may_import: &'static [&'static str],
    /// Crates that it must not name, those whose names begin like them included.
    never_names: &'static [&'static str],
}

const fn room(
    name: &'static str,
    may_import: &'static [&'static str],
    never_names: &'static [&'static str],
) -> Room {
    Room { name, may_import, never_names }
}

const EVERYTHING: &[&str] = &[
    "domain",
    "auth",
    "store",
    "registry",
    "proto",
    "grpc",
    "client",
    "agent",
    "cli",
    "commands",
    "certs",
    "config",
    "dev",
    "files",
    "server",
    "service",
    "systemd",
    "telemetry",
    "tls",
];

const WIRE: &[&str] = &["tonic", "prost", "sled"];

/// Only `grpc`, `proto`, `client` and `cli` know protobuf; only `store` knows sled; only the rim and what
/// puts a server together know tonic.
const ROOMS: &[Room] = &[
    room("domain", &[], &["tokio", "tonic", "prost", "sled", "http", "hyper", "tower"]),
    room("auth", &["domain", "service"], WIRE),
    room("store", &["domain"], &["tonic", "hyper", "tower"]),
    room("registry", &["domain", "auth", "store"], &["tonic", "prost", "sled", "hyper", "tower"]),
    room("proto", &[], &["tokio", "sled"]),
    room("grpc", &["proto", "domain", "auth", "registry", "service", "telemetry"], &["sled"]),
    room("client", &["proto", "domain"], &["sled"]),
    room("cli", &["proto", "domain", "client", "files"], &["sled"]),
    room("agent", &["proto", "domain", "client", "files", "systemd"], &["sled"]),
    room("files", &[], WIRE),
    room("service", &[], WIRE),
    room("systemd", &[], WIRE),
    room("certs", &["files"], WIRE),
    room("tls", &["certs", "files"], WIRE),
    room("config", &["domain", "auth", "tls"], WIRE),
    room("telemetry", &["config", "domain", "service"], &["prost", "sled"]),
    room("dev", &["auth", "certs", "config", "domain", "files", "tls"], WIRE),
    room("server", EVERYTHING, &["prost", "sled"]),
    room(
        "commands",
        &["agent", "certs", "config", "dev", "server", "store", "systemd", "telemetry"],
        WIRE,
    ),
    room("bin", &["cli", "commands", "store"], &["tonic", "prost"]),
];

/// What a store of our own is called; `main` names one, and nothing else knows which it is.
const STORES: &[&str] = &["sled", "SledStore"];

#[test]
fn every_module_knows_only_what_it_may() {
    let mut broken = Vec::new();
    for source in Source::all() {
        let Some(room) = ROOMS.iter().find(|room| room.name == source.module) else {
            broken.push(format!("{} is in no row of the table; give it one", source.module));
            continue;
        };
        let may_import = |module: &str| module == room.name || room.may_import.contains(&module);
        let names = &source.names;
        broken.extend(names.ours.iter().filter(|module| !may_import(module)).map(|module| {
            format!("{} imports `{module}`, which `{}` may not", source.file, room.name)
        }));
        broken.extend(names.foreign.iter().filter(|name| room.forbids(name)).map(|name| {
            format!("{} names `{name}`, which `{}` must never know", source.file, room.name)
        }));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn only_the_program_names_a_store() {
    let elsewhere = Source::all().into_iter().filter(|source| {
        let may = matches!(&*source.module, "store" | "bin");
        !may && STORES.iter().any(|store| source.names.words.contains(*store))
    });
    let files: Vec<_> = elsewhere.map(|source| source.file).collect();
    assert!(files.is_empty(), "take an `Arc<dyn Store>` instead in {files:?}");
}

#[test]
fn every_row_of_the_table_is_a_module() {
    let modules: BTreeSet<_> = Source::all().into_iter().map(|source| source.module).collect();
    let rows: BTreeSet<_> = ROOMS.iter().map(|room| room.name.to_owned()).collect();
    assert_eq!(rows, modules);
    let declared: BTreeSet<_> =
        EVERYTHING.iter().chain(&["bin"]).map(|&name| name.to_owned()).collect();
    assert_eq!(declared, modules);
}

#[test]
fn the_reader_of_sources_sees_every_way_to_name_a_module() {
    let text = r##"
        //! crate::in_a_comment
        use crate::{alpha::{self, nested::Deep}, beta as other, gamma};
        use ::sled::Db;
        use super::super::outside::Thing;
        /* crate::in_a_block /* nested */ still */
        use partnerd::theta::{Thing, tonic::{inner}};
        fn f(s: &str) -> crate::delta::T { tonic_types::x("crate::in_a_text \" crate::too"); r#"crate::raw"# }
        const C: char = '"'; use crate::epsilon; fn g<'a>(x: &'a str) { self::sled::open(x) }
        #[cfg(test)]
        mod tests { use crate::zeta; fn h() { {} } }
        use crate::eta::*;
    "##;
    let names = Names::read(text);
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names.ours, set(&["alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta"]));
    assert!(names.foreign.is_superset(&set(&["sled", "tonic_types"])));
    assert!(!names.foreign.contains("tonic"));
    assert!(!Names::read("fn f() { self::sled::open(); }").foreign.contains("sled"));
}

impl Room {
    fn forbids(&self, crate_name: &str) -> bool {
        self.never_names.iter().any(|never| {
            let rest = crate_name.strip_prefix(never);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        })
    }
}

/// A file of the product and what it names.
struct Source {
    file: String,
    module: String,
    names: Names,
}

impl Source {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = files_below(&root);
        let sources =
            files.iter().filter_map(|path| Self::of(path.strip_prefix(&root).ok()?, path));
        sources.collect()
    }

    /// `None` for the crate's root and for files of tests.
    fn of(inside: &Path, path: &Path) -> Option<Self> {
        let file = inside.to_str()?.to_owned();
        let is_test = inside.iter().any(|part| part == "tests" || part == "tests.rs");
        if is_test || file == "lib.rs" {
            return None;
        }
        let first = inside.iter().next()?.to_str()?;
        let module = first.strip_suffix(".rs").unwrap_or(first).to_owned();
        let text = fs::read_to_string(path).unwrap();
        Some(Self { file, module, names: Names::read(&text) })
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// What a file names outside its tests.
#[derive(Default)]
struct Names {
    /// Top-level modules of ours.
    ours: BTreeSet<String>,
    /// First segments of paths that do not begin at our own root.
    foreign: BTreeSet<String>,
    /// Every word.
    words: BTreeSet<String>,
}

impl Names {
    fn read(text: &str) -> Self {
        let tokens = tokens(text);
        let mut names = Self::default();
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            let read = match *rest {
                ["mod", "tests", "{", ..] => 2 + group(&rest[2..]).len(),
                ["use", next, ..] if next != "<" => {
                    let end = rest.iter().position(|token| *token == ";").unwrap_or(rest.len());
                    let path = &rest[1..end];
                    names.add_path(path.strip_prefix(&["::"]).unwrap_or(path));
                    names.add_words(path);
                    end
                }
                _ => {
                    let is_inside_path =
                        matches!(tokens[..at], [.., before, "::"] if is_word(before));
                    if !is_inside_path {
                        names.add_path(rest);
                    }
                    names.add_words(&rest[..1]);
                    1
                }
            };
            at += read;
        }
        names
    }

    fn add_words(&mut self, tokens: &[&str]) {
        let words = tokens.iter().filter(|token| is_word(token));
        self.words.extend(words.map(|&word| word.to_owned()));
    }

    fn add_path(&mut self, path: &[&str]) {
        match *path {
            ["crate" | "partnerd", "::", "{", ..] => {
                let inside = group(&path[2..]);
                for (pair, depth) in inside.windows(2).zip(depths(inside)) {
                    if depth == 1 && matches!(pair[0], "{" | ",") && is_word(pair[1]) {
                        self.ours.insert(pair[1].to_owned());
                    }
                }
            }
            ["crate" | "partnerd", "::", module, ..] => {
                self.ours.insert(module.to_owned());
            }
            ["self" | "super" | "Self", "::", ..] => {}
            [name] | [name, "::" | "as", ..] if is_word(name) => {
                self.foreign.insert(name.to_owned());
            }
            _ => {}
        }
    }
}

/// The tokens of a group in braces, the braces included.
fn group<'t, 'a>(tokens: &'t [&'a str]) -> &'t [&'a str] {
    let end = depths(tokens).position(|depth| depth == 0);
    &tokens[..end.map_or(tokens.len(), |end| end + 1)]
}

/// How many braces are open after each token.
fn depths(tokens: &[&str]) -> impl Iterator<Item = usize> {
    tokens.iter().scan(0_usize, |open, token| {
        match *token {
            "{" => *open += 1,
            "}" => *open = open.saturating_sub(1),
            _ => {}
        }
        Some(*open)
    })
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single signs, without comments, texts and characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = skipped(rest);
        if skipped > 0 {
            rest = &rest[skipped..];
            continue;
        }
        let length = if is_word(rest) {
            rest.find(|next: char| !(next.is_alphanumeric() || next == '_')).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = &rest[length..];
    }
    tokens
}

/// How many bytes of space, comment, text or character `rest` begins with.
fn skipped(rest: &str) -> usize {
    let to = |end: &str, from: usize| {
        rest[from..].find(end).map_or(rest.len(), |found| from + found + end.len())
    };
    if rest.starts_with("//") {
        return to("\n", 2);
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    for raw in ["r\"", "br\"", "r#\"", "br#\"", "r##\"", "br##\""] {
        if rest.starts_with(raw) {
            let hashes = raw.matches('#').count();
            return to(&format!("\"{}", "#".repeat(hashes)), raw.len());
        }
    }
    if let Some(inside) = rest.strip_prefix('"') {
        let mut escaped = false;
        let end = inside.find(|next| {
            let closes = next == '"' && !escaped;
            escaped = next == '\\' && !escaped;
            closes
        });
        return end.map_or(rest.len(), |end| end + 2);
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        return character(inside);
    }
    rest.len() - rest.trim_start().len()
}

fn block_comment(rest: &str) -> usize {
    let (mut open, mut at) = (0, 0);
    while at < rest.len() {
        let (step, deeper) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        open += deeper;
        if open == 0 {
            break;
        }
    }
    at
}

/// A character after its first quote, or only the quote if it is that of a lifetime.
fn character(inside: &str) -> usize {
    let mut signs = inside.char_indices();
    let Some((_, first)) = signs.next() else { return 1 };
    if first == '\\' {
        signs.next();
        return inside[2..].find('\'').map_or(1, |end| end + 4);
    }
    match signs.next() {
        Some((at, '\'')) => at + 2,
        _ => 1,
    }
}
