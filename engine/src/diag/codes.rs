//! What each code means: shown by `curette explain CODE`. A test holds every text to the same shape: meaning, example, remedy.

use super::Code;

/// Code, its number, meaning, example, remedy.
type Text = (Code, &'static str, &'static str, &'static str, &'static str);

const TEXTS: &[Text] = &[
    (
        Code::Syntax,
        "E0001",
        "The file is not TOML.",
        "[step.videos\ntype = \"videos\"",
        "Correct the marked place. Text goes in quotes, table headers in `[brackets]`, and a table or key may appear only once.",
    ),
    (
        Code::UnknownSection,
        "E0002",
        "The top level of a pipeline file has the tables `pipeline`, `engine`, `runtime` and `step`, and nothing else.",
        "[pipelines]\nname = \"demo\"",
        "Rename the table, or move the keys to the table that they belong to.",
    ),
    (
        Code::MissingVariable,
        "E0003",
        "A text uses `${NAME}`, but the environment variable NAME is not set and no default is given.",
        "path = \"${VIDEOS}/*.mp4\"",
        "Set the variable, or give a default: `${VIDEOS:-./videos}`. A literal `${` is written `$${`.",
    ),
    (
        Code::UnknownType,
        "E0101",
        "The `type` of a step names no operator.",
        "[step.probe]\ntype = \"prob\"",
        "`curette ops` lists all operators.",
    ),
    (
        Code::MissingType,
        "E0102",
        "Every step says by `type` which operator it is.",
        "[step.probe]\ninputs = [\"videos\"]",
        "Add `type = \"...\"`. `curette ops` lists all operators.",
    ),
    (
        Code::UnknownKey,
        "E0103",
        "The table has a key that does not exist there.",
        "[step.split]\ntype = \"temporal_split\"\nmin_similarty = 0.9",
        "Correct the spelling, or remove the key. `curette ops NAME` lists the keys of an operator.",
    ),
    (
        Code::MissingKey,
        "E0104",
        "A key without a default is not there.",
        "[pipeline]\nname = \"demo\"\n# output is missing",
        "Add the key. `curette ops NAME` shows an example.",
    ),
    (
        Code::WrongType,
        "E0105",
        "The value has another type than the key takes.",
        "min_height = \"480\"",
        "Numbers and booleans are written without quotes, lists in `[ ]`.",
    ),
    (
        Code::OutOfRange,
        "E0106",
        "The value is outside the range that the key takes.",
        "max_error_rate = 10.0",
        "Choose a value in the range that the message names; mind the unit in the key's name.",
    ),
    (
        Code::UnknownVariant,
        "E0107",
        "The key takes one of a few names, and this is none of them.",
        "on_unmeasured = \"ignore\"",
        "Choose one of the names in the message.",
    ),
    (
        Code::Contradiction,
        "E0108",
        "Two parameters exclude each other, or one has no effect here.",
        "min_length_seconds = 10.0\nmax_length_seconds = 5.0",
        "Change or remove one of them.",
    ),
    (
        Code::BadName,
        "E0109",
        "Names of pipelines and steps have 1 to 64 letters, digits, `-` and `_`, because they become names of folders, columns and metrics.",
        "[step.\"my step\"]",
        "Rename it.",
    ),
    (
        Code::UnknownInput,
        "E0201",
        "`inputs` names a step that is not in the file.",
        "inputs = [\"vidoes\"]",
        "Correct the spelling, or add the step.",
    ),
    (
        Code::DuplicateInput,
        "E0202",
        "`inputs` names a step twice; its rows would be there twice.",
        "inputs = [\"videos\", \"videos\"]",
        "Remove one of the two.",
    ),
    (
        Code::Cycle,
        "E0203",
        "Steps feed each other in a circle, so none of them could start.",
        "[step.a]\ninputs = [\"b\"]\n[step.b]\ninputs = [\"a\"]",
        "Take one step out of the `inputs` of another, so that rows flow in one direction only.",
    ),
    (
        Code::DanglingOutput,
        "E0204",
        "No step reads the rows of this step, so its work would be thrown away.",
        "[step.probe]\ntype = \"probe\"\ninputs = [\"videos\"]\n# and no step has inputs = [\"probe\"]",
        "Let a sink or another step read from it, or remove it.",
    ),
    (
        Code::WrongInputs,
        "E0205",
        "Sources make rows and have no `inputs`; all other steps need at least one; sinks give no rows to others.",
        "[step.videos]\ntype = \"videos\"\ninputs = [\"probe\"]",
        "Remove or add `inputs`, or read from the step before the sink.",
    ),
    (
        Code::EmptyPipeline,
        "E0206",
        "A pipeline needs at least one source and one sink, or nothing would happen.",
        "[pipeline]\nname = \"demo\"\noutput = \"out\"",
        "Add a source such as `videos` and a sink such as `parquet`. `pipelines/quickstart.toml` is a complete file.",
    ),
    (
        Code::SameLocation,
        "E0207",
        "Two sinks write to the same folder, or one inside the folder of the other, and would delete each other's files.",
        "[step.clips]\ntype = \"parquet\"\nlocation = \"out\"\n[step.videos_table]\ntype = \"parquet\"\nlocation = \"out\"",
        "Give each sink a `location` of its own. `rejects`, `errors`, `stages` and `_curette` belong to the engine.",
    ),
    (
        Code::MissingColumn,
        "E0301",
        "The operator needs a column that no step before it makes.",
        "[step.hd]\ntype = \"resolution_filter\"   # needs width and height\ninputs = [\"videos\"]",
        "Put a step that makes the column before it; the message names those that can.",
    ),
    (
        Code::WrongColumnType,
        "E0302",
        "The column is there, but holds another type than the operator reads.",
        "a manifest column `width` of text, read by resolution_filter",
        "Let another step make the column, or correct the input.",
    ),
    (
        Code::DuplicateColumn,
        "E0303",
        "The operator would add a column that the rows have already.",
        "two steps of type `probe` in a row",
        "Remove one of the two steps, or give the column another name if the operator has a key for it.",
    ),
    (
        Code::SchemaMismatch,
        "E0304",
        "A step with several inputs needs the same columns of the same types from each.",
        "inputs = [\"videos\", \"probe\"]   # probe has more columns",
        "Send the rows of all inputs through the same kinds of steps, or let separate steps read them.",
    ),
    (
        Code::BadPredicate,
        "E0305",
        "The SQL condition cannot be understood: its syntax, a column, a function or a type is wrong.",
        "keep_if = \"widht >= 640\"",
        "Conditions are boolean SQL expressions over the columns of one row: `width >= 640 and not (fps < 10.0)`. Text goes in single quotes.",
    ),
    (
        Code::MissingFile,
        "E0401",
        "A file that is part of the pipeline's meaning is not there or cannot be read.",
        "dictionary = \"medical_terms.txt\"",
        "Relative paths start at the folder of the pipeline file. Correct the path, or fetch the file.",
    ),
    (
        Code::BadModel,
        "E0402",
        "A model, head or dictionary is there, but does not fit the step.",
        "head = \"head.safetensors\"   # made for another embedding",
        "Use a file that was made for these parameters; the message says what differs.",
    ),
    (
        Code::MissingSoftware,
        "E0403",
        "This machine lacks software that the step needs.",
        "clip_cut without an H.264 encoder",
        "Install it (`scripts/bootstrap` does), or check with `--no-environment` if the pipeline will run elsewhere.",
    ),
    (
        Code::NoInput,
        "E0404",
        "An input path matches nothing.",
        "path = \"videos/*.mp4\"   # the folder is empty",
        "Correct the path. Relative paths start at the folder of the pipeline file.",
    ),
];

impl Code {
    /// All codes, in order.
    pub fn all() -> impl Iterator<Item = Code> {
        TEXTS.iter().map(|t| t.0)
    }

    /// The code as users write it: `E0103`.
    pub fn as_str(self) -> &'static str {
        self.text().1
    }

    /// The code that `E0103` or `e0103` stands for.
    pub fn parse(code: &str) -> Option<Code> {
        TEXTS.iter().find(|t| t.1.eq_ignore_ascii_case(code.trim())).map(|t| t.0)
    }

    /// What it means, an example and the remedy.
    pub fn explain(self) -> String {
        let (_, code, meaning, example, remedy) = self.text();
        let example: String = example.lines().map(|l| format!("    {l}\n")).collect();
        format!("{code}: {meaning}\n\nExample:\n\n{example}\nWhat to do: {remedy}\n")
    }

    fn text(self) -> &'static Text {
        // TEXTS is in the order of the enum; the test below holds it to that.
        &TEXTS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_text_and_number() {
        for (i, text) in TEXTS.iter().enumerate() {
            assert_eq!(text.0 as usize, i, "{:?} is out of order", text.0);
            assert_eq!(Code::parse(text.1), Some(text.0));
        }
        assert_eq!(Code::all().last(), Some(Code::NoInput), "the last code of the enum has no text");
        let numbers: std::collections::BTreeSet<_> = TEXTS.iter().map(|t| t.1).collect();
        assert_eq!(numbers.len(), TEXTS.len());
        insta::assert_snapshot!(Code::MissingVariable.explain());
    }
}
