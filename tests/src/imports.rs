//! Which file uses items of which other file, within each crate of the workspace.
//!
//! Sources are parsed with `syn`, and every path in them is resolved to the file that defines the item: through imports,
//! re-exports and globs, in function bodies and in the arguments of macros as well. A re-export alone is no use. Code that
//! only tests are built with (`#[cfg(test)]`) does not count.
//!
//! Two things are not seen: methods that are called on a value whose type the caller does not name, and items that a
//! macro makes without their names standing in its arguments.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, Meta, UseTree, Visibility};

/// File, used file, and the names of the items that are used.
pub type Uses = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// The uses between the files of the crate whose root file is `root`.
///
/// # Panics
///
/// If a file cannot be read or parsed.
pub fn of_crate(root: &Path) -> Uses {
    let mut tree = Tree::default();
    tree.load(
        root,
        None,
        "",
        root.parent().expect("a file lies in a folder"),
    );
    let mut uses = Uses::new();
    for module in 0..tree.modules.len() {
        let code = std::mem::take(&mut tree.modules[module].code);
        let mut finder = Finder {
            tree: &tree,
            module,
            scopes: Vec::new(),
            uses: &mut uses,
        };
        code.iter().for_each(|item| finder.visit_item(item));
    }
    uses
}

/// Groups of more than one file that use each other, directly or through others: the strongly connected components.
pub fn circles(uses: &Uses) -> Vec<BTreeSet<PathBuf>> {
    let reached: BTreeMap<_, _> = uses
        .keys()
        .map(|file| (file, reachable(uses, file)))
        .collect();
    let mut circles: Vec<BTreeSet<PathBuf>> = Vec::new();
    for (file, others) in &reached {
        if circles.iter().any(|circle| circle.contains(*file)) {
            continue;
        }
        let circle: BTreeSet<_> = others
            .iter()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(*file)))
            .cloned()
            .collect();
        if circle.len() > 1 {
            circles.push(circle);
        }
    }
    circles
}

/// The uses inside of a circle, one a line.
pub fn describe(uses: &Uses, circle: &BTreeSet<PathBuf>, base: &Path) -> String {
    let name = |path: &Path| {
        path.strip_prefix(base)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let mut lines = Vec::new();
    for file in circle {
        for (used, items) in uses.get(file).into_iter().flatten() {
            if circle.contains(used) {
                let items: Vec<_> = items.iter().map(String::as_str).collect();
                lines.push(format!(
                    "  {} uses {}: {}",
                    name(file),
                    name(used),
                    items.join(", ")
                ));
            }
        }
    }
    lines.join("\n")
}

fn reachable(uses: &Uses, from: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for used in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(used.clone()) {
                open.push(used);
            }
        }
    }
    found
}

type ModuleId = usize;

/// What a name stands for in a module.
#[derive(Clone, Debug)]
enum Meaning {
    Module(ModuleId),
    /// A type, trait or macro, by the file that defines it. Variants and associated items may follow.
    Type(PathBuf),
    /// A function or a value, likewise. Nothing follows.
    Value(PathBuf),
    Import(Vec<String>),
}

#[derive(Default)]
struct Module {
    file: PathBuf,
    parent: Option<ModuleId>,
    names: HashMap<String, Vec<Meaning>>,
    globs: Vec<Vec<String>>,
    /// Its items but modules.
    code: Vec<Item>,
}

/// The modules of a crate, the root first.
#[derive(Default)]
struct Tree {
    modules: Vec<Module>,
}

impl Tree {
    /// Reads the file of a module; `folder` is where its children lie.
    fn load(
        &mut self,
        file: &Path,
        parent: Option<ModuleId>,
        name: &str,
        folder: &Path,
    ) -> ModuleId {
        let text =
            fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.add(file, parent, name, folder, parsed.items)
    }

    fn add(
        &mut self,
        file: &Path,
        parent: Option<ModuleId>,
        name: &str,
        folder: &Path,
        items: Vec<Item>,
    ) -> ModuleId {
        let id = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            ..Module::default()
        });
        if let Some(parent) = parent {
            self.name(parent, name, Meaning::Module(id));
        }
        for item in items {
            if attributes(&item).is_some_and(is_test_only) {
                continue;
            }
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let below = folder.join(&name);
                    match module.content {
                        Some((_, items)) => self.add(file, Some(id), &name, &below, items),
                        None => {
                            let own = match path_attribute(&module.attrs) {
                                // Relative to the folder of the file, as in all others.
                                Some(path) => {
                                    file.parent().expect("a file lies in a folder").join(path)
                                }
                                None => folder.join(format!("{name}.rs")),
                            };
                            self.load(&own, Some(id), &name, &below)
                        }
                    };
                }
                other => {
                    self.define(id, &other);
                    self.modules[id].code.push(other);
                }
            }
        }
        id
    }

    fn name(&mut self, module: ModuleId, name: &str, meaning: Meaning) {
        let meanings = self.modules[module].names.entry(name.to_owned());
        meanings.or_default().push(meaning);
    }

    /// Notes the names that an item gives to its module.
    fn define(&mut self, module: ModuleId, item: &Item) {
        let here = Meaning::Type(self.modules[module].file.clone());
        match item {
            Item::Use(import) => {
                let Leaves { names, globs } = Leaves::of(import);
                for (name, path) in names {
                    self.name(module, &name, Meaning::Import(path));
                }
                self.modules[module].globs.extend(globs);
            }
            Item::Macro(made) => match &made.ident {
                Some(name) => {
                    let exported = made
                        .attrs
                        .iter()
                        .any(|attr| attr.path().is_ident("macro_export"));
                    self.name(if exported { 0 } else { module }, &name.to_string(), here);
                }
                None => {
                    for name in names_in(&made.mac.tokens) {
                        self.name(module, &name, here.clone());
                    }
                }
            },
            other => {
                let is_value = matches!(other, Item::Fn(_) | Item::Const(_) | Item::Static(_));
                if let Some(name) = defined(other) {
                    let file = self.modules[module].file.clone();
                    self.name(
                        module,
                        &name,
                        if is_value { Meaning::Value(file) } else { here },
                    );
                }
            }
        }
    }

    /// The files that define what `path` may stand for, seen from `module`. A name has one meaning in each of Rust's
    /// namespaces, so there may be several.
    fn resolve(
        &self,
        module: ModuleId,
        path: &[String],
        open: &mut Vec<(ModuleId, String)>,
    ) -> Vec<PathBuf> {
        let Some((module, path)) = self.start(module, path) else {
            return Vec::new();
        };
        let Some((first, rest)) = path.split_first() else {
            return Vec::new();
        };
        let here = &self.modules[module];
        let mut found = Vec::new();
        for meaning in here.names.get(first).into_iter().flatten() {
            match meaning {
                Meaning::Type(file) => found.push(file.clone()),
                Meaning::Value(file) if rest.is_empty() => found.push(file.clone()),
                Meaning::Value(_) => {}
                Meaning::Module(child) => found.extend(self.resolve(*child, rest, open)),
                Meaning::Import(import) => {
                    // An import may start with its own name (`use url::url`), which then is another meaning of it.
                    let entry = (module, first.clone());
                    if open.contains(&entry) {
                        continue;
                    }
                    open.push(entry);
                    let whole: Vec<_> = import.iter().chain(rest).cloned().collect();
                    found.extend(self.resolve(module, &whole, open));
                    open.pop();
                }
            }
        }
        if !here.names.contains_key(first) {
            for glob in &here.globs {
                let entry = (module, glob.join("::"));
                if let Some(other) = self.module_at(module, glob)
                    && !open.contains(&entry)
                {
                    open.push(entry);
                    found.extend(self.resolve(other, path, open));
                    open.pop();
                }
            }
        }
        found
    }

    /// Goes along `crate`, `self` and `super` at the start of a path.
    fn start<'p>(
        &self,
        mut module: ModuleId,
        mut path: &'p [String],
    ) -> Option<(ModuleId, &'p [String])> {
        while let Some((first, rest)) = path.split_first() {
            match first.as_str() {
                "crate" => module = 0,
                "self" => {}
                "super" => module = self.modules[module].parent?,
                _ => break,
            }
            path = rest;
        }
        Some((module, path))
    }

    /// The module that a path names without an import.
    fn module_at(&self, module: ModuleId, path: &[String]) -> Option<ModuleId> {
        let (mut module, path) = self.start(module, path)?;
        for name in path {
            let mut meanings = self.modules[module].names.get(name)?.iter();
            module = meanings.find_map(|meaning| match meaning {
                Meaning::Module(child) => Some(*child),
                _ => None,
            })?;
        }
        Some(module)
    }
}

/// Visits the code of one module and notes what it uses.
struct Finder<'a> {
    tree: &'a Tree,
    module: ModuleId,
    /// Imports and names of items in the blocks around, innermost last.
    scopes: Vec<HashMap<String, Option<Vec<String>>>>,
    uses: &'a mut Uses,
}

impl Finder<'_> {
    fn note(&mut self, path: &[String]) {
        let mut path = path.to_owned();
        if let Some(first) = path.first()
            && let Some(local) = self.scopes.iter().rev().find_map(|scope| scope.get(first))
        {
            match local {
                Some(import) => path = import.iter().chain(&path[1..]).cloned().collect(),
                None => return,
            }
        }
        let own = &self.tree.modules[self.module].file;
        for file in self.tree.resolve(self.module, &path, &mut Vec::new()) {
            if file != *own {
                let used = self.uses.entry(own.clone()).or_default();
                used.entry(file).or_default().insert(path.join("::"));
            }
        }
    }

    fn import(&mut self, import: &ItemUse) {
        let Leaves { names, globs } = Leaves::of(import);
        // A glob of an enum uses the enum; one of a module uses what is named elsewhere.
        for path in names.into_iter().map(|(_, path)| path).chain(globs) {
            self.note(&path);
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).is_some_and(is_test_only) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    /// A private import is used in its file, or the compiler warns. One that is handed on need not be.
    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        if matches!(import.vis, Visibility::Inherited) {
            self.import(import);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let mut scope = HashMap::new();
        for statement in &block.stmts {
            match statement {
                syn::Stmt::Item(Item::Use(import)) => {
                    scope.extend(
                        Leaves::of(import)
                            .names
                            .into_iter()
                            .map(|(name, path)| (name, Some(path))),
                    );
                }
                syn::Stmt::Item(item) => {
                    scope.extend(defined(item).into_iter().map(|name| (name, None)));
                }
                _ => {}
            }
        }
        self.scopes.push(scope);
        visit::visit_block(self, block);
        self.scopes.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names: Vec<_> = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect();
            self.note(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        for path in paths_in(call.tokens.clone()) {
            self.note(&path);
        }
    }
}

/// The attributes of an item.
fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}

/// Whether there is `#[cfg(test)]`, or `#[cfg(all(test, ...))]`.
fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string();
            text == "test" || text.starts_with("all (test")
        }
        _ => false,
    })
}

/// The file that `#[path = "..."]` names.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes
        .iter()
        .find_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        })
}

/// The name that an item defines, but imports and macros.
fn defined(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// What one `use` imports.
#[derive(Default)]
struct Leaves {
    /// Names, each with its path.
    names: Vec<(String, Vec<String>)>,
    /// Paths that all names are imported of.
    globs: Vec<Vec<String>>,
}

impl Leaves {
    fn of(import: &ItemUse) -> Self {
        let mut leaves = Self::default();
        if import.leading_colon.is_none() {
            leaves.add(&import.tree, &[]);
        }
        leaves
    }

    fn add(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| {
            let mut path = before.to_owned();
            // `{self, ...}` is the module in front of it.
            if name != "self" || before.is_empty() {
                path.push(name.to_string());
            }
            path
        };
        match tree {
            UseTree::Path(path) => self.add(&path.tree, &with(&path.ident)),
            UseTree::Name(name) => {
                let path = with(&name.ident);
                self.names
                    .push((path.last().cloned().unwrap_or_default(), path));
            }
            UseTree::Rename(rename) => self
                .names
                .push((rename.rename.to_string(), with(&rename.ident))),
            UseTree::Glob(_) => self.globs.push(before.to_owned()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add(tree, before)),
        }
    }
}

/// Names behind `struct`, `fn` and the like in the arguments of a macro that makes items.
fn names_in(tokens: &TokenStream) -> Vec<String> {
    const KEYWORDS: [&str; 8] = [
        "struct", "enum", "fn", "const", "static", "type", "trait", "union",
    ];
    let mut names = Vec::new();
    let mut after_keyword = false;
    for token in tokens.clone() {
        if let TokenTree::Ident(name) = token {
            let name = name.to_string();
            if after_keyword {
                names.push(name.clone());
            }
            after_keyword = KEYWORDS.contains(&name.as_str());
        } else {
            after_keyword = false;
        }
    }
    names
}

/// Everything in the arguments of a macro that looks like a path, and is no field or method.
fn paths_in(tokens: TokenStream) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut path: Vec<String> = Vec::new();
    // What stood before: colons that go on with the path, or a dot that makes the next name a field.
    let (mut colons, mut after_dot) = (0, false);
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                if colons != 2 || path.is_empty() {
                    paths.push(std::mem::take(&mut path));
                }
                if !after_dot {
                    path.push(name.to_string());
                }
                (colons, after_dot) = (0, false);
            }
            TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
            other => {
                paths.push(std::mem::take(&mut path));
                colons = 0;
                after_dot = matches!(&other, TokenTree::Punct(sign) if sign.as_char() == '.');
                if let TokenTree::Group(group) = other {
                    paths.extend(paths_in(group.stream()));
                }
            }
        }
    }
    paths.push(path);
    paths.retain(|path| !path.is_empty());
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The uses between files that are given by name and text; the first is the root.
    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut found = Vec::new();
        let name = |path: &Path| {
            path.strip_prefix(folder.path())
                .unwrap()
                .display()
                .to_string()
        };
        for (file, used) in of_crate(&folder.path().join(files[0].0)) {
            found.extend(
                used.keys()
                    .map(|used| format!("{} > {}", name(&file), name(used))),
            );
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn an_item_is_used_where_it_is_named_and_not_where_it_is_handed_on() {
        check(
            &[
                ("lib.rs", "mod a; mod b; mod c;"),
                ("a.rs", "mod inner; pub use inner::Item; pub struct Own;"),
                (
                    "a/inner.rs",
                    "pub struct Item; impl Item { pub fn new() -> Self { Self } }",
                ),
                ("b.rs", "use crate::a::Item; fn f() { Item::new(); }"),
                (
                    "c.rs",
                    "use super::a; fn f(_: a::Own) { println!(\"{:?}\", a::Item::new()); }",
                ),
            ],
            &["b.rs > a/inner.rs", "c.rs > a/inner.rs", "c.rs > a.rs"],
        );
    }

    #[test]
    fn an_item_that_is_handed_on_and_used_is_used() {
        check(
            &[
                ("lib.rs", "mod a; pub use a::Item; fn f(_: Item) {}"),
                ("a.rs", "pub struct Item;"),
            ],
            &["lib.rs > a.rs"],
        );
    }

    #[test]
    fn blocks_globs_and_macros_are_looked_through() {
        check(
            &[
                ("lib.rs", "#[macro_use] mod a; mod b; mod c; mod d;"),
                ("a.rs", "#[macro_export] macro_rules! make { () => {} }"),
                (
                    "b.rs",
                    "crate::make! { pub struct Made { x } } pub enum E { One }",
                ),
                ("c.rs", "use crate::b::*; fn f(_: Made) {}"),
                (
                    "d.rs",
                    "fn f() { use crate::b::E; let _ = matches!(1, E::One); struct Made; let _ = Made; }",
                ),
            ],
            &["b.rs > a.rs", "c.rs > b.rs", "d.rs > b.rs"],
        );
    }

    #[test]
    fn a_module_and_a_function_may_have_one_name() {
        check(
            &[
                ("lib.rs", "mod serve; mod a; pub fn serve() {}"),
                ("serve.rs", "pub fn stop() {}"),
                ("a.rs", "fn f() { crate::serve::stop() }"),
            ],
            &["a.rs > serve.rs"],
        );
    }

    #[test]
    fn tests_do_not_count() {
        check(
            &[
                (
                    "lib.rs",
                    "mod a; #[cfg(test)] mod t; #[cfg(test)] mod u { use crate::a::X; }",
                ),
                (
                    "a.rs",
                    "pub struct X; #[cfg(test)] use crate::t::Y; #[cfg(test)] fn f(_: Y) {}",
                ),
                ("t.rs", "pub struct Y; use crate::a::X;"),
            ],
            &[],
        );
    }

    #[test]
    fn a_circle_through_others_is_found_whole() {
        let uses: Uses = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
            .into_iter()
            .map(|(file, used)| {
                let items = BTreeSet::from(["x".to_owned()]);
                (file.into(), BTreeMap::from([(used.into(), items)]))
            })
            .collect();
        let circles = circles(&uses);
        assert_eq!(circles, [["a", "b", "c"].map(PathBuf::from).into()]);
        let text = describe(&uses, &circles[0], Path::new(""));
        assert_eq!(text, "  a uses b: x\n  b uses c: x\n  c uses a: x");
    }
}
