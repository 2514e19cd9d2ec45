//! A page that says why there is no other.

use askama::Template;

use super::Answer;
use super::shown::{Shown, shown};

#[derive(Template)]
#[template(path = "refusal.html")]
struct Page {
    title: &'static str,
    why: Shown,
}

/// Says in a sentence what is wrong, and where to go from here.
pub fn page(status: u16, title: &'static str, why: &str) -> Answer {
    let answer = rendered(Page { title, why: shown(why) }.render());
    if answer.status == 200 { Answer { status, ..answer } } else { answer }
}

/// What a template made.
pub(super) fn rendered(html: Result<String, askama::Error>) -> Answer {
    html.map_or_else(|error| Answer::refused(500, &format!("the page cannot be made: {error}")), Answer::html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_page_with_its_sentence_as_text() {
        let answer = page(404, "Not here", "nothing is called <script>alert(1)</script>");
        assert_eq!((answer.status, answer.content_type), (404, "text/html; charset=utf-8"));
        assert!(answer.body.contains("&#60;script&#62;alert(1)") && !answer.body.contains("<script>alert"), "{}", answer.body);
        assert!(answer.body.contains(r#"href="/""#));
    }
}
