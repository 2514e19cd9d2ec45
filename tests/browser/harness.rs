//! What the tests of the page stand on sees what is wrong: a harness that finds nothing anywhere proves nothing.

use crate::axe;
use crate::bed::net::Namespace;
use crate::driver::{Browser, ENTER, Scheme, Scripts};
use crate::keyboard;
use crate::scripted_server::{Reply, ScriptedServer};

/// A server of one page, whatever is asked, which lets inline styles and scripts through or not.
fn serving(html: &str, policy: &str) -> ScriptedServer {
    let page =
        format!("<!doctype html><html lang=en><head><title>A page</title></head><body><main><h1>A page</h1>{html}</main></body></html>");
    let headers = vec![("content-type", "text/html; charset=utf-8".to_owned()), ("content-security-policy", policy.to_owned())];
    ScriptedServer::start([], Reply::Answer { status: 200, headers, body: page })
}

fn looking<T: Send>(scripts: Scripts, html: &str, look: impl FnOnce(&Browser) -> T + Send) -> T {
    Namespace::new().enter(|| {
        let (server, browser) = (serving(html, "default-src 'unsafe-inline'"), Browser::start(scripts));
        browser.open(&server.url());
        look(&browser)
    })
}

#[test]
fn a_page_in_order_has_no_complaints_and_no_violations() {
    looking(Scripts::Run, "<p>All is well. <a href='/'>Here</a></p>", |browser| {
        assert_eq!(browser.complaints(), Vec::<String>::new());
        assert!(axe::violations(browser).is_empty());
        assert_eq!(browser.text("return document.title"), "A page");
    });
}

#[test]
fn what_a_script_throws_is_a_complaint() {
    looking(Scripts::Run, "<script>nobody.knows()</script>", |browser| {
        let complaints = browser.complaints();
        assert!(complaints.iter().any(|line| line.contains("nobody is not defined")), "{complaints:?}");
    });
}

#[test]
fn what_the_policy_of_a_page_forbids_is_a_complaint() {
    Namespace::new().enter(|| {
        let server = serving("<p style='color: red'>Words</p>", "default-src 'none'; style-src 'self'");
        let browser = Browser::start(Scripts::Run);
        browser.open(&server.url());
        let complaints = browser.complaints();
        assert!(matches!(&complaints[..], [one] if one.contains("Content Security Policy")), "{complaints:?}");
    });
}

#[test]
fn faint_text_and_inputs_without_a_name_are_serious_in_the_scheme_in_which_they_are() {
    let html = "<style>@media (prefers-color-scheme: dark) { body { color: #555; background: #444 } }</style><p>Words</p>";
    looking(Scripts::Run, &format!("{html}<label>Name <input></label>"), |browser| {
        assert!(axe::serious(browser).is_empty());
        browser.prefers(Scheme::Dark);
        let found = axe::serious(browser);
        assert_eq!(found.iter().map(|violation| violation.id.as_str()).collect::<Vec<_>>(), ["color-contrast"], "{found:?}");
    });
    looking(Scripts::Run, "<input>", |browser| {
        let found = axe::serious(browser);
        assert_eq!(found.iter().map(|violation| violation.id.as_str()).collect::<Vec<_>>(), ["label"], "{found:?}");
    });
}

#[test]
fn without_scripts_none_of_the_page_runs() {
    let html = "<p id=seen>no</p><script>document.getElementById('seen').textContent = 'yes'</script>";
    let seen = "return document.getElementById('seen').textContent";
    assert_eq!(looking(Scripts::Run, html, |browser| browser.text(seen)), "yes");
    assert_eq!(looking(Scripts::Off, html, |browser| browser.text(seen)), "no");
}

#[test]
fn a_form_is_filled_and_sent_by_keys_alone() {
    looking(Scripts::Off, "<form><label>Name <input name=q></label></form>", |browser| {
        browser.run("document.querySelector('input').focus()", &[]);
        browser.press("edge 1".chars().chain([ENTER]));
        keyboard::arrives(browser, &["q=edge+1"]);
    });
}

#[test]
fn what_tab_does_not_reach_or_whose_focus_is_not_seen_is_told() {
    let good = "<a href='#a'>one</a> <button>two</button> <a href='#b' tabindex=-1>not by Tab</a> <button hidden>away</button>";
    looking(Scripts::Run, good, |browser| assert_eq!(keyboard::walk(browser), Vec::<String>::new()));
    let faint = "<style>button:focus { outline: none }</style><a href='#a'>one</a> <button>two</button>";
    let told = looking(Scripts::Run, faint, keyboard::walk);
    assert!(matches!(&told[..], [one] if one.contains("is not seen") && one.contains("two")), "{told:?}");
    let caught = "<a href='#a'>one</a> <button onkeydown='event.preventDefault()'>two</button> <a href='#c'>three</a>";
    let told = looking(Scripts::Run, caught, keyboard::walk);
    assert!(matches!(&told[..], [one] if one.contains("is not reached") && one.contains("three")), "{told:?}");
}

#[test]
fn a_picture_is_of_the_size_of_the_window() {
    looking(Scripts::Run, "", |browser| {
        browser.sized(390, 844);
        let picture = browser.picture();
        let number = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().expect("four bytes"));
        assert_eq!((&picture[1..4], number(16), number(20)), (&b"PNG"[..], 390, 844));
    });
}
