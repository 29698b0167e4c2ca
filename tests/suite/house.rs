//! The house rules that a program can check: floors, import circles, doors, sizes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use syn::{Item, UseTree, visit::Visit};

/// Every room, and the rooms that it may use beside itself. `guide` is documents and uses nothing.
const FLOORS: [(&str, &[&str]); 18] = [
    ("error", &[]),
    ("platform", &["error"]),
    ("entry", &["error", "platform"]),
    ("defaults", &["entry"]),
    ("ledger", &[]),
    ("query", &["error", "entry"]),
    ("queue", &["error", "platform", "entry"]),
    ("store", &["error", "platform", "entry", "ledger", "query"]),
    ("engine", &["error", "platform", "defaults", "entry", "query", "queue", "store"]),
    ("reader", &["error", "platform", "defaults", "entry", "query", "store"]),
    ("layer", &["error", "platform", "entry", "engine"]),
    ("export", &["error", "platform", "entry", "query", "store", "reader"]),
    ("evidence", &["error", "platform", "entry", "ledger", "store", "reader"]),
    ("log", EVERYTHING),
    ("testing", EVERYTHING),
    ("fuzz", EVERYTHING),
    ("measure", EVERYTHING),
    ("guide", &[]),
];

const EVERYTHING: &[&str] = &[
    "error", "entry", "platform", "defaults", "ledger", "query", "queue", "store", "engine", "reader",
    "layer", "export", "evidence", "log",
];

/// Names of crates, and of what belongs to one operating system, with the rooms, or single files of rooms, that alone may name
/// them.
const KEPT_IN: [(&str, &[&str]); 6] = [
    ("sqlx::", &["store", "platform/in_place.rs"]),
    ("tracing_subscriber::", &["layer", "log", "testing"]),
    ("unsafe {", &["platform"]),
    ("cfg(unix)", &["platform"]),
    ("cfg(windows)", &["platform"]),
    ("std::os::", &["platform"]),
];

const FILE_LINES: usize = 450;

/// A place where a name can be found: the path of its module from the root of its crate.
type Module = Vec<String>;

struct File {
    /// From the root of the crate that it belongs to.
    path: PathBuf,
    module: Module,
    text: String,
    items: Vec<Item>,
}

#[derive(Default)]
struct Crate {
    files: Vec<File>,
    /// The file that defines a name.
    defined: BTreeMap<(Module, String), usize>,
    /// What a name in a module stands for, if it is imported there.
    imported: BTreeMap<(Module, String), Vec<String>>,
    /// The modules whose names all are imported into a module.
    globs: BTreeMap<Module, Vec<Vec<String>>>,
    modules: BTreeSet<Module>,
    /// The files that define a type's own methods.
    methods: BTreeMap<(String, String), BTreeSet<usize>>,
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `#[cfg(test)]`, or `#[cfg(all(test, ..))]`.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let condition = attribute.parse_args::<syn::Meta>();
        condition.is_ok_and(|condition| match condition {
            syn::Meta::Path(path) => path.is_ident("test"),
            syn::Meta::List(list) if list.path.is_ident("all") => {
                list.tokens.into_iter().next().is_some_and(|first| first.to_string() == "test")
            }
            _ => false,
        })
    })
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Struct(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Const(item) => item.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

fn type_of(item: &syn::ItemImpl) -> Option<String> {
    let syn::Type::Path(path) = &*item.self_ty else { return None };
    path.path.segments.last().map(|segment| segment.ident.to_string())
}

impl Crate {
    /// Reads the files below `root` whose path begins with none of `without`.
    fn read(root: &Path, without: &[&str]) -> Self {
        let mut paths = Vec::new();
        rust_files(root, &mut paths);
        let mut all = Self::default();
        for path in paths {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().to_owned();
            if without.iter().any(|prefix| path.starts_with(prefix)) || path.ends_with("tests.rs") {
                continue;
            }
            let mut module: Module =
                path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module
                .last()
                .is_some_and(|last| last == "mod" || module.len() == 1 && (last == "lib" || last == "main"))
            {
                module.pop();
            }
            let items =
                syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).items;
            let items = items.into_iter().filter(|item| !is_for_tests(attributes(item))).collect();
            all.files.push(File { path, module, text, items });
        }
        for index in 0..all.files.len() {
            let (module, items) =
                (all.files[index].module.clone(), std::mem::take(&mut all.files[index].items));
            all.modules.insert(module.clone());
            all.learn(index, &module, &items);
            all.files[index].items = items;
        }
        all
    }

    fn learn(&mut self, file: usize, module: &Module, items: &[Item]) {
        for item in items {
            if let Some(name) = name_of(item) {
                self.defined.insert((module.clone(), name), file);
            }
            match item {
                Item::Use(item) => self.import(module, &item.tree, Vec::new()),
                Item::Mod(syn::ItemMod { ident, content: Some((_, items)), .. }) => {
                    let mut module = module.clone();
                    module.push(ident.to_string());
                    self.modules.insert(module.clone());
                    self.learn(file, &module, items);
                }
                Item::Impl(item) if item.trait_.is_none() => {
                    let Some(name) = type_of(item) else { continue };
                    for member in &item.items {
                        if let syn::ImplItem::Fn(method) = member {
                            let key = (name.clone(), method.sig.ident.to_string());
                            self.methods.entry(key).or_default().insert(file);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn import(&mut self, module: &Module, tree: &UseTree, mut path: Vec<String>) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                self.import(module, &tree.tree, path);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(module, tree, path.clone()));
            }
            UseTree::Glob(_) => self.globs.entry(module.clone()).or_default().push(path),
            UseTree::Name(name) => {
                let mut known_as = name.ident.to_string();
                if known_as == "self" {
                    known_as = path.last().cloned().unwrap_or_default();
                } else {
                    path.push(known_as.clone());
                }
                self.imported.insert((module.clone(), known_as), path);
            }
            UseTree::Rename(name) => {
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                self.imported.insert((module.clone(), name.rename.to_string()), path);
            }
        }
    }

    /// The file that defines what `path` names in `module`.
    fn resolve(&self, module: &Module, path: &[String], depth: usize) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        if depth > 16 {
            return None;
        }
        let at = match &**first {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module.split_last()?.1.to_vec(),
            _ => return self.find(module, path, depth),
        };
        self.find(&at, rest, depth)
    }

    fn find(&self, module: &Module, path: &[String], depth: usize) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        if first == "super" {
            return self.find(&module.split_last()?.1.to_vec(), rest, depth);
        }
        let key = (module.clone(), first.clone());
        if let Some(file) = self.defined.get(&key) {
            return Some(*file);
        }
        if let Some(target) = self.imported.get(&key) {
            let target: Vec<String> = target.iter().chain(rest).cloned().collect();
            if target != path {
                return self.resolve(module, &target, depth + 1);
            }
        }
        let mut child = module.clone();
        child.push(first.clone());
        if self.modules.contains(&child) {
            return self.find(&child, rest, depth);
        }
        self.globs.get(module)?.iter().find_map(|glob| {
            let target: Vec<String> = glob.iter().chain(path).cloned().collect();
            self.resolve(module, &target, depth + 1)
        })
    }

    /// Which file uses which: by imports and paths, and by calls between the parts of one type.
    fn edges(&self) -> BTreeSet<(usize, usize)> {
        let mut edges = BTreeSet::new();
        for (index, file) in self.files.iter().enumerate() {
            // A door uses nothing: what it passes on is counted where it is used.
            if is_door(file) {
                continue;
            }
            let mut paths = Paths { all: self, file: index, part_of: None, used: BTreeSet::new() };
            file.items.iter().for_each(|item| paths.visit_item(item));
            edges.extend(paths.used.into_iter().filter(|used| *used != index).map(|used| (index, used)));
        }
        edges
    }

    fn name(&self, file: usize) -> String {
        self.files[file].path.display().to_string()
    }
}

fn is_door(file: &File) -> bool {
    file.path.ends_with("mod.rs") || file.path.ends_with("lib.rs")
}

struct Paths<'a> {
    all: &'a Crate,
    file: usize,
    /// The type whose methods are visited.
    part_of: Option<String>,
    used: BTreeSet<usize>,
}

impl Paths<'_> {
    fn uses(&mut self, path: &[String]) {
        let module = &self.all.files[self.file].module;
        self.used.extend(self.all.resolve(module, path, 0));
    }

    fn calls(&mut self, method: &str) {
        let Some(name) = &self.part_of else { return };
        let Some(files) = self.all.methods.get(&(name.clone(), method.to_owned())) else { return };
        // Two types of one name in two rooms are two types.
        let room = self.all.files[self.file].module.first();
        let same = files.iter().filter(|file| self.all.files[**file].module.first() == room);
        if files.len() == 1 {
            self.used.extend(same);
        }
    }

    fn use_tree(&mut self, tree: &UseTree, mut path: Vec<String>) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                self.use_tree(&tree.tree, path);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, path.clone())),
            UseTree::Name(name) if name.ident != "self" => {
                path.push(name.ident.to_string());
                self.uses(&path);
            }
            UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                self.uses(&path);
            }
            UseTree::Name(_) | UseTree::Glob(_) => {}
        }
    }
}

impl<'a> Visit<'a> for Paths<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        let before = self.part_of.clone();
        match item {
            Item::Use(item) => self.use_tree(&item.tree, Vec::new()),
            Item::Impl(item) => self.part_of = type_of(item),
            _ => {}
        }
        syn::visit::visit_item(self, item);
        self.part_of = before;
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let path_of: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        match &*path_of {
            [first, method] if first == "Self" => self.calls(method),
            _ => self.uses(&path_of),
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        if let syn::Expr::Path(receiver) = &*call.receiver
            && receiver.path.is_ident("self")
        {
            self.calls(&call.method.to_string());
        }
        syn::visit::visit_expr_method_call(self, call);
    }
}

/// The sets of more than one node that all reach each other.
fn circles<T: Ord + Clone>(edges: &BTreeSet<(T, T)>) -> Vec<BTreeSet<T>> {
    let mut reached: BTreeMap<T, BTreeSet<T>> = BTreeMap::new();
    for (from, _) in edges {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(node) = next.pop() {
            for (_, to) in edges.iter().filter(|(from, _)| *from == node) {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        reached.insert(from.clone(), seen);
    }
    let mut found: Vec<BTreeSet<T>> = Vec::new();
    for (node, seen) in &reached {
        if seen.contains(node) && !found.iter().any(|circle| circle.contains(node)) {
            let back = |other: &&T| reached.get(*other).is_some_and(|seen| seen.contains(node));
            found.push(seen.iter().filter(back).cloned().collect());
        }
    }
    found
}

fn crates() -> [(&'static str, Crate); 2] {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let command = source.join("bin/tracing-audit");
    [("the library", Crate::read(&source, &["bin"])), ("the command", Crate::read(&command, &[]))]
}

fn room(path: &Path) -> String {
    path.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
}

#[test]
fn no_file_and_no_folder_is_part_of_an_import_circle() {
    let mut report = String::new();
    for (name, all) in crates() {
        let edges = all.edges();
        assert!(edges.len() > all.files.len(), "{name}: only {} imports were found", edges.len());
        let by_name = edges.iter().map(|(from, to)| (all.name(*from), all.name(*to))).collect();
        for circle in circles(&by_name) {
            writeln!(report, "{name}: files {circle:?}").unwrap();
            for (from, to) in by_name.iter().filter(|(from, to)| circle.contains(from) && circle.contains(to))
            {
                writeln!(report, "    {from} -> {to}").unwrap();
            }
        }
        // Of two files, the folders, or the file and the folder, that stand beside each other in one folder.
        let siblings = edges.iter().filter_map(|(from, to)| {
            let (from, to) = (&all.files[*from].path, &all.files[*to].path);
            let shared = from.iter().zip(to.iter()).take_while(|(from, to)| from == to).count();
            let upto = |path: &Path| path.iter().take(shared + 1).collect::<PathBuf>();
            (upto(from) != upto(to)).then(|| (upto(from), upto(to)))
        });
        for circle in circles(&siblings.collect()) {
            writeln!(report, "{name}: folders {circle:?}").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn a_room_uses_only_rooms_below_it_and_imports_from_the_room_that_owns_the_name() {
    let floors: BTreeMap<&str, &[&str]> = FLOORS.into_iter().collect();
    let (_, all) = &crates()[0];
    let mut report = String::new();
    for (from, to) in all.edges() {
        let (from, to) = (&all.files[from].path, &all.files[to].path);
        let (using, used) = (room(from), room(to));
        let allowed = floors.get(&*using).unwrap_or_else(|| panic!("{using} is not a room of the table"));
        if using != used && !allowed.contains(&&*used) {
            writeln!(report, "{}: {using} may not use {used} ({})", from.display(), to.display()).unwrap();
        }
    }
    for file in all.files.iter().filter(|file| !file.path.ends_with("lib.rs")) {
        for (number, line) in (1..).zip(without_tests(&file.text)) {
            let code = line.split("//").next().unwrap_or_default();
            let parts: Vec<&str> = code.split("crate::").collect();
            for pair in parts.windows(2) {
                let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
                let name: String = pair[1].chars().take_while(is_name).collect();
                if !pair[0].ends_with('$') && !floors.contains_key(&*name) {
                    writeln!(
                        report,
                        "{}:{number}: {name:?} comes through the front door",
                        file.path.display()
                    )
                    .unwrap();
                }
            }
            for (name, rooms) in KEPT_IN {
                if code.contains(name) && !rooms.iter().any(|kept| file.path.starts_with(kept)) {
                    writeln!(report, "{}:{number}: {name} belongs to {rooms:?}", file.path.display())
                        .unwrap();
                }
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// The lines of a file up to its tests.
fn without_tests(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        (pair[0] == "#[cfg(test)]" || pair[0].starts_with("#[cfg(all(test,")) && pair[1].starts_with("mod ")
    });
    lines[..tests.unwrap_or(lines.len())].to_vec()
}

#[test]
fn a_file_says_what_it_does_is_short_and_a_door_defines_nothing() {
    let mut report = String::new();
    for (_, all) in crates() {
        for file in &all.files {
            let (path, lines) = (file.path.display(), without_tests(&file.text));
            let is_guide = file.path.starts_with("guide");
            if lines.len() > FILE_LINES && !is_guide {
                writeln!(report, "{path}: {} lines without its tests, more than {FILE_LINES}", lines.len())
                    .unwrap();
            }
            let first = lines.first().and_then(|line| line.strip_prefix("//! ")).unwrap_or_default();
            if first.is_empty()
                || ["What ", "Where ", "Who ", "Whether ", "Of "].iter().any(|word| first.starts_with(word))
            {
                writeln!(
                    report,
                    "{path}: the first line says what the file does, verb or noun first: {first:?}"
                )
                .unwrap();
            }
            if is_door(file) && !file.path.ends_with("lib.rs") {
                let defines = file.items.iter().any(|item| !matches!(item, Item::Mod(_) | Item::Use(_)));
                if defines {
                    writeln!(report, "{path}: a door defines nothing").unwrap();
                }
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// The macros end the process where standard error or output cannot be written.
#[test]
fn the_command_prints_by_functions_that_do_not_panic() {
    let mut report = String::new();
    for (_, all) in crates().iter().filter(|(name, _)| *name == "the command") {
        for file in &all.files {
            for (line, number) in file.text.lines().zip(1..) {
                let is_code = !line.trim_start().starts_with("//");
                if is_code && ["println!", "print!"].iter().any(|name| line.contains(name)) {
                    writeln!(report, "{}:{number}: {}", file.path.display(), line.trim()).unwrap();
                }
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}
