//! The verb `why`: what became of a video or clip, in each version of the tables.

use clap::Args;
use curette_engine::exit::Exit;
use curette_operators::why::why;

use crate::{Format, complain, print};

#[derive(Args)]
pub(crate) struct WhyArgs {
    /// The id of a video, record, clip or shot, as tables have it in `video_id`, `clip_id` or `shot_id`.
    id: String,
    /// The output folders or URLs of pipelines, one after the other where several follow each other.
    #[arg(required = true)]
    outputs: Vec<String>,
    /// How the story is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Exit 1 if no output has anything of the id.
pub(crate) fn show(args: &WhyArgs) -> Exit {
    let mut stories = Vec::new();
    for output in &args.outputs {
        match why(&args.id, output) {
            Ok(story) => stories.push(story),
            Err(e) => {
                complain(&format!("{output}: {e}"));
                return Exit::Mistake;
            }
        }
    }
    let text = match args.format {
        Format::Text => stories.iter().map(|story| story.text()).collect::<Vec<_>>().join("\n"),
        Format::Json => serde_json::to_string_pretty(&stories).unwrap_or_default(),
    };
    match (print(text.trim_end()), stories.iter().any(|story| story.is_known())) {
        (Exit::Done, false) => Exit::Failed,
        (exit, _) => exit,
    }
}
