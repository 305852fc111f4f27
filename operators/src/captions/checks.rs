//! Keys of the captioner that contradict each other, found before anything is read.

use curette_engine::diag::Code;
use curette_engine::operator::StepCheck;

use super::answer::ResponseFormat;
use super::captioner::Captioner;
use super::keys::{ApiStyle, Backend};
use super::start::{read_prompt, url};
use crate::remote::budget;

/// Reports what is wrong with a captioner's keys.
pub fn validate(captioner: &Captioner, check: &mut dyn StepCheck) {
    match captioner.backend {
        Backend::Template => template(captioner, check),
        Backend::Openai => {
            service(captioner, check);
            answers(captioner, check);
            money(captioner, check);
        }
    }
}

fn template(captioner: &Captioner, check: &mut dyn StepCheck) {
    let set = [
        ("base_url", !captioner.base_url.is_empty()),
        ("model", !captioner.model.is_empty()),
        ("api_key", !captioner.api_key.is_empty()),
        ("prompt_file", captioner.prompt_file.is_some()),
        ("brief_prompt_file", captioner.brief_prompt_file.is_some()),
        ("one_answer", captioner.one_answer),
        ("max_cost_usd", captioner.max_cost_usd.is_some()),
        ("max_total_tokens", captioner.max_total_tokens.is_some()),
    ];
    for (key, _) in set.into_iter().filter(|(_, set)| *set) {
        let message = format!("backend `template` asks no model, so `{key}` has no effect");
        check.error(Some(key), Code::Contradiction, message, Some("remove the key, or set `backend = \"openai\"`".into()));
    }
}

fn service(captioner: &Captioner, check: &mut dyn StepCheck) {
    if captioner.model.is_empty() {
        let help = "for example `model = \"gpt-4o\"`";
        check.error(None, Code::MissingKey, "backend `openai` needs `model`".into(), Some(help.into()));
    }
    let azure = captioner.api_style == ApiStyle::Azure;
    let example = match azure {
        true => "for example `base_url = \"https://NAME.openai.azure.com\"`",
        false => "for example `base_url = \"https://api.openai.com/v1\"`",
    };
    if captioner.base_url.is_empty() {
        check.error(None, Code::MissingKey, "backend `openai` needs `base_url`".into(), Some(example.into()));
    } else if let Err(message) = url(captioner) {
        check.error(Some("base_url"), Code::OutOfRange, message, Some(example.into()));
    }
    let version = !captioner.azure_api_version.is_empty();
    if azure && !version {
        let help = "for example `azure_api_version = \"2024-10-21\"`";
        let message = "`api_style = \"azure\"` needs `azure_api_version`";
        check.error(Some("api_style"), Code::MissingKey, message.into(), Some(help.into()));
    }
    for (key, set) in [("azure_deployment", !captioner.azure_deployment.is_empty()), ("azure_api_version", version)] {
        if set && !azure {
            let message = format!("`{key}` has no effect with `api_style = \"openai\"`");
            check.error(Some(key), Code::Contradiction, message, Some("remove the key, or set `api_style = \"azure\"`".into()));
        }
    }
}

fn answers(captioner: &Captioner, check: &mut dyn StepCheck) {
    if captioner.one_answer && captioner.response_format == ResponseFormat::Text {
        let message = "two captions in one answer cannot be told apart in plain text";
        let help = "set `response_format` to `json_schema` or `json_object`";
        check.error(Some("one_answer"), Code::Contradiction, message.into(), Some(help.into()));
    }
    if captioner.one_answer && captioner.brief_prompt_file.is_some() {
        let message = "with `one_answer` there is no second question, so `brief_prompt_file` has no effect";
        check.error(Some("brief_prompt_file"), Code::Contradiction, message.into(), Some("remove one of the two keys".into()));
    }
    for (key, path, brief) in
        [("prompt_file", &captioner.prompt_file, false), ("brief_prompt_file", &captioner.brief_prompt_file, true)]
    {
        let Some(path) = path.as_ref().map(|p| check.paths().resolve(p)).filter(|p| p.exists()) else { continue };
        if let Err(message) = read_prompt(Some(path), "", brief) {
            check.error(Some(key), Code::BadModel, message, None);
        }
    }
}

fn money(captioner: &Captioner, check: &mut dyn StepCheck) {
    let prices = (captioner.usd_per_million_prompt_tokens, captioner.usd_per_million_completion_tokens);
    let both = "set both `usd_per_million_prompt_tokens` and `usd_per_million_completion_tokens`";
    match prices {
        (Some(_), None) | (None, Some(_)) => {
            let key = if prices.0.is_some() { "usd_per_million_prompt_tokens" } else { "usd_per_million_completion_tokens" };
            check.error(Some(key), Code::MissingKey, "one of two prices is missing".into(), Some(both.into()));
        }
        (None, None) if captioner.max_cost_usd.is_some() => {
            let message = "a budget in dollars needs prices";
            check.error(Some("max_cost_usd"), Code::MissingKey, message.into(), Some(both.into()));
        }
        _ => {}
    }
    let limits = [("max_cost_usd", captioner.max_cost_usd.is_some()), ("max_total_tokens", captioner.max_total_tokens.is_some())];
    budget::check(&limits, captioner.cache_location.as_deref(), &captioner.budget_name, check);
}

#[cfg(test)]
mod tests {
    use crate::testing::mistakes;

    fn said(toml: &str) -> String {
        let clip = [("start_us", arrow::datatypes::DataType::Int64), ("end_us", arrow::datatypes::DataType::Int64)];
        mistakes(&format!("type = \"captioner\"\n{toml}"), &clip).join("\n")
    }

    #[test]
    fn contradictions_are_found_before_the_run() {
        let openai = |rest: &str| said(&format!("backend = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h/v1\"\n{rest}"));
        let all = [
            said("backend = \"template\""),
            said("backend = \"template\"\nmodel = \"m\"\napi_key = \"k\"\nmax_cost_usd = 1"),
            said("backend = \"openai\""),
            said("backend = \"openai\"\nmodel = \"m\"\nbase_url = \"ftp://x\""),
            said("backend = \"openai\"\nmodel = \"m\"\nbase_url = \"https://user:pass@x/v1\""),
            said("backend = \"openai\"\nmodel = \"m\"\nbase_url = \"nowhere\""),
            mistakes("type = \"captioner\"\nbackend = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h\"", &[]).join("\n"),
            openai("api_style = \"azure\""),
            openai("azure_api_version = \"2024-10-21\""),
            openai("one_answer = true\nbrief_prompt_file = \"b.txt\""),
            openai("usd_per_million_prompt_tokens = 2.5"),
            openai("max_cost_usd = 10"),
            openai("max_total_tokens = 10\ncache_location = \"off\"\nbudget_name = \"../x\""),
            openai("one_answer = true\nresponse_format = \"json_schema\"\nmax_total_tokens = 10"),
        ];
        insta::assert_snapshot!(all.join("\n--\n"), @r#"

        --
        model E-Contradiction: backend `template` asks no model, so `model` has no effect
        api_key E-Contradiction: backend `template` asks no model, so `api_key` has no effect
        max_cost_usd E-Contradiction: backend `template` asks no model, so `max_cost_usd` has no effect
        --
        - E-MissingKey: backend `openai` needs `model`
        - E-MissingKey: backend `openai` needs `base_url`
        --
        base_url E-OutOfRange: `ftp://x` is not an http or https URL
        --
        base_url E-OutOfRange: `base_url` holds a user name or password, which logs would show; use `api_key`
        --
        base_url E-OutOfRange: `nowhere` is not a URL: relative URL without a base
        --
        - E-MissingColumn: rows have neither `start_us` and `end_us` (a clip) nor `duration_us` (a video): there is no span to look at
        --
        api_style E-MissingKey: `api_style = "azure"` needs `azure_api_version`
        --
        azure_api_version E-Contradiction: `azure_api_version` has no effect with `api_style = "openai"`
        --
        one_answer E-Contradiction: two captions in one answer cannot be told apart in plain text
        brief_prompt_file E-Contradiction: with `one_answer` there is no second question, so `brief_prompt_file` has no effect
        --
        usd_per_million_prompt_tokens E-MissingKey: one of two prices is missing
        --
        max_cost_usd E-MissingKey: a budget in dollars needs prices
        --
        max_total_tokens E-Contradiction: a budget is kept beside the cache, and there is none
        budget_name E-OutOfRange: a budget's name has at most 64 letters, digits, `-` and `_`
        --
        "#);
    }
}
