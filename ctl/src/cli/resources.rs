//! The arguments of commands on resources.

use std::str::FromStr;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// A file with YAML or JSON documents, a directory of such files, or "-" for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<String>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Namespace of namespaced resources that name none
    #[arg(short = 'n', long, default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,
}

#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) source: FileArgs,
    /// Check everything and say what would be done to objects, sessions and announced prefixes, but write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The kind (ippool, pool, bgppeer, ...) and names, or kind/name
    #[arg(value_name = "KIND NAME", conflicts_with = "files")]
    pub(crate) what: Vec<String>,
    #[command(flatten)]
    pub(crate) source: FileArgs,
    /// Do not mind resources that do not exist
    #[arg(short = 's', long, alias = "skip-not-exists")]
    pub(crate) ignore_not_found: bool,
    /// Also a Node with workloads, which go with it, and an IPPool whose addresses are in use, which stay with their workloads
    #[arg(long)]
    pub(crate) force: bool,
    /// Of a Node delete nothing but the Node: what it leaves is found and collected by the other nodes' felix, in time
    #[arg(long, conflicts_with = "force")]
    pub(crate) orphan: bool,
    /// Say what would be deleted, but delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The kind (ippool, pool, bgppeer, ...) and perhaps names, or kind/name
    #[arg(
        value_name = "KIND [NAME]",
        required_unless_present = "files",
        conflicts_with = "files"
    )]
    pub(crate) what: Vec<String>,
    #[command(flatten)]
    pub(crate) source: FileArgs,
    /// How to print: table, wide, yaml, json, name, custom-columns=COLUMN,..., go-template=TEMPLATE, go-template-file=FILE
    ///
    /// COLUMN is the title of a column, or TITLE:PATH with a path such as .spec.cidr. Templates see what -o json prints.
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Only resources whose labels fit, such as "rack == 'r1' && has(gpu)"
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<tortie_model::Selector>,
    /// Of namespaced resources, those of every namespace
    #[arg(short = 'A', long, short_alias = 'a', conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Leave out what belongs to this cluster: uid, resourceVersion, creationTimestamp, namespace
    #[arg(long)]
    pub(crate) export: bool,
}

/// How resources are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// A row each.
    Table,
    /// A row each, with more columns.
    Wide,
    /// A document that can be applied.
    Yaml,
    /// The same as JSON.
    Json,
    /// kind/name, a line each.
    Name,
    /// Columns that the person chooses.
    Columns(Vec<String>),
    /// Go's text/template.
    Template(String),
    /// The same, in a file.
    TemplateFile(String),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (word, value) = s.split_once('=').map_or((s, None), |(word, value)| (word, Some(value)));
        let filled = value.filter(|v| !v.is_empty());
        match (word, filled) {
            ("table" | "ps", None) => Ok(Format::Table),
            ("wide", None) => Ok(Format::Wide),
            ("yaml", None) => Ok(Format::Yaml),
            ("json", None) => Ok(Format::Json),
            ("name", None) => Ok(Format::Name),
            ("custom-columns", Some(list)) => Ok(Format::Columns(list.split(',').map(str::to_owned).collect())),
            ("go-template", Some(text)) => Ok(Format::Template(text.to_owned())),
            ("go-template-file", Some(file)) => Ok(Format::TemplateFile(file.to_owned())),
            _ => Err(
                "want table, wide, yaml, json, name, custom-columns=COLUMN,..., go-template=TEMPLATE or \
                 go-template-file=FILE"
                    .to_owned(),
            ),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PatchArgs {
    /// The kind and the name, or kind/name
    #[arg(value_name = "KIND NAME", required = true, num_args = 1..=2)]
    pub(crate) what: Vec<String>,
    /// What to change, JSON or YAML
    #[arg(short = 'p', long, value_name = "PATCH")]
    pub(crate) patch: String,
    /// What kind of patch it is
    #[arg(short = 't', long = "type", value_enum, default_value_t = PatchType::Strategic)]
    pub(crate) kind: PatchType,
    /// Namespace of namespaced resources
    #[arg(short = 'n', long, default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,
    /// Check it, but write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PatchType {
    /// Fields are merged, null removes one, a list takes the place of the list; "$patch: replace" and "$patch: delete" in an object
    Strategic,
    /// RFC 7386: fields are merged, null removes one, a list takes the place of the list
    Merge,
    /// RFC 6902: a list of operations
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// The kind and the name, or kind/name; then KEY=VALUE, or with --remove KEY
    #[arg(value_name = "KIND NAME LABEL", required = true, num_args = 2..)]
    pub(crate) what: Vec<String>,
    /// Change labels that are there with another value
    #[arg(long, conflicts_with = "remove")]
    pub(crate) overwrite: bool,
    /// Take the labels away
    #[arg(long)]
    pub(crate) remove: bool,
    /// Namespace of namespaced resources
    #[arg(short = 'n', long, default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,
    /// Check it, but write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pub(crate) source: FileArgs,
    /// How to print what is wrong
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) source: FileArgs,
    /// What deleting the objects of the files would do
    #[arg(long)]
    pub(crate) delete: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub(crate) output: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct BgpViewArgs {
    /// The node
    #[arg(long, value_name = "NAME")]
    pub(crate) node: tortie_net::NodeName,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = DocumentFormat::Yaml)]
    pub(crate) output: DocumentFormat,
}

#[derive(Debug, Args)]
pub(crate) struct BgpComputedArgs {
    /// Of this node only
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<tortie_net::NodeName>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TableFormat::Table)]
    pub(crate) output: TableFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocumentFormat {
    /// YAML
    Yaml,
    /// JSON
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// A row each
    Table,
    /// A list
    Yaml,
    /// The same as JSON
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextFormat {
    /// Text
    Text,
    /// One JSON object
    Json,
}
