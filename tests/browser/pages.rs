//! The pages, of a qosd that measures with every kind of probe. The W number is that of the list of faults.

use serde_json::Value;

use crate::axe::{self, Violation};
use crate::bed::eventually;
use crate::demo::{Demo, HOSTILE, PAGE, of_target};
use crate::driver::{Browser, ENTER, ESCAPE, LIMIT, RIGHT, Scheme, Scripts};
use crate::keyboard;

/// Every page, with what must be on it.
fn pages() -> Vec<(String, &'static str)> {
    vec![
        (format!("{PAGE}/"), "#series tbody tr, #series tr:nth-child(2)"),
        (of_target("ping", "core", "127.0.0.1"), "figure.chart svg[role=img]"),
        (of_target("ping", "core", "nobody"), "#events"),
        (of_target("http", "portal", "127.0.0.1"), "figure.chart svg[role=img]"),
        (of_target("iperf3", "backbone", "127.0.0.1"), "figure.chart svg[role=img]"),
        (format!("{PAGE}/mesh"), "#matrix td"),
        (format!("{PAGE}/status"), "#actors, #outputs, #journal"),
    ]
}

/// How many elements fit.
fn count(browser: &Browser, selector: &str) -> u64 {
    let count = browser.run("return document.querySelectorAll(arguments[0]).length", &[selector.into()]);
    count.as_u64().expect("a length is a number")
}

/// The rows of the overview that are seen, but for its head.
fn series(browser: &Browser) -> Vec<String> {
    let rows = "return [...document.querySelectorAll('#series tr')].filter(row => row.querySelector('td') && row.checkVisibility())
        .map(row => row.textContent)";
    serde_json::from_value(browser.run(rows, &[])).expect("rows are text")
}

/// Pages do not refresh themselves any more: what is looked at stays what it is.
fn quiet(browser: &Browser) {
    browser.open(&format!("{PAGE}/"));
    browser.run("sessionStorage.setItem('live', 'off')", &[]);
}

#[test]
fn every_page_opens_without_a_complaint_and_axe_finds_nothing_serious_in_light_and_dark() {
    Demo::start().look(Scripts::Run, |browser| {
        quiet(browser);
        for (page, content) in pages() {
            for scheme in [Scheme::Light, Scheme::Dark] {
                browser.prefers(scheme);
                browser.open(&page);
                assert!(count(browser, content) > 0, "{page} has no {content}: {}", browser.text("return document.body.innerText"));
                assert_eq!(browser.complaints(), Vec::<String>::new(), "{page} {scheme:?}");
                let found: Vec<_> = axe::serious(browser).iter().map(Violation::told).collect();
                assert!(found.is_empty(), "{page} {scheme:?}: {}", found.join("\n"));
            }
        }
    });
}

#[test]
fn a_page_is_dark_for_who_prefers_that_and_fits_a_phone() {
    Demo::start().look(Scripts::Run, |browser| {
        let background = "return getComputedStyle(document.body).backgroundColor";
        for (page, _) in pages() {
            browser.sized(1280, 900);
            browser.prefers(Scheme::Light);
            browser.open(&page);
            let light = browser.text(background);
            browser.prefers(Scheme::Dark);
            assert_ne!(light, browser.text(background), "{page}");
            browser.sized(390, 844);
            let wide = browser.run("return document.documentElement.scrollWidth", &[]);
            assert!(wide.as_u64().is_some_and(|wide| wide <= 390), "{page} is {wide} wide");
        }
    });
}

#[test]
fn the_filter_leaves_the_series_that_match_what_is_typed_with_and_without_scripts() {
    let demo = Demo::start();
    for scripts in [Scripts::Run, Scripts::Off] {
        demo.look(scripts, |browser| {
            browser.open(&format!("{PAGE}/"));
            let all = series(browser).len();
            keyboard::focus(browser, "#filter [name=q]");
            browser.press("nobody".chars().chain([ENTER]));
            eventually(LIMIT, || match &series(browser)[..] {
                [one] if one.contains("nobody") => Ok(()),
                rows => Err(format!("{} of {all} rows at {}", rows.len(), browser.address())),
            });
            assert!(all > 1);
        });
    }
}

#[test]
fn a_range_is_chosen_by_its_link_and_by_the_form_with_and_without_scripts() {
    let demo = Demo::start();
    for scripts in [Scripts::Run, Scripts::Off] {
        demo.look(scripts, |browser| {
            browser.open(&of_target("ping", "core", "127.0.0.1"));
            keyboard::focus(browser, "#ranges a[href*='range=6h']");
            browser.press([ENTER]);
            keyboard::arrives(browser, &["range=6h"]);
            assert!(count(browser, "figure.chart svg") > 0);
            for name in ["from", "to"] {
                assert_eq!(count(browser, &format!("#span [name={name}]")), 1);
            }
            keyboard::focus(browser, "#span [name=to]");
            browser.press([ENTER]);
            keyboard::arrives(browser, &["from=", "to="]);
            assert!(count(browser, "figure.chart") > 0, "{}", browser.text("return document.body.innerText"));
        });
    }
}

/// A button offers it; arrows move its ends, Enter takes it, Escape does not.
#[test]
fn a_range_is_picked_on_a_chart_by_the_keyboard() {
    Demo::start().look(Scripts::Run, |browser| {
        quiet(browser);
        let page = of_target("ping", "core", "127.0.0.1");
        browser.open(&page);
        keyboard::focus(browser, "figure.chart button.pick");
        browser.press([ENTER, ESCAPE]);
        let back = "return document.activeElement.matches('button.pick')";
        assert_eq!((browser.run(back, &[]), browser.address()), (Value::Bool(true), page), "Escape leaves all as it was");
        browser.press([ENTER]);
        assert_eq!(browser.text("return document.activeElement.type"), "range");
        browser.press(std::iter::repeat_n(RIGHT, 5).chain([ENTER]));
        keyboard::arrives(browser, &["from=", "to="]);
        assert!(count(browser, "figure.chart svg") > 0);
        assert_eq!(browser.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_page_refreshes_itself_and_one_stays_where_one_is() {
    Demo::start().look(Scripts::Run, |browser| {
        let page = format!("{PAGE}/");
        browser.open(&page);
        let link = "#series a";
        keyboard::focus(browser, link);
        let (newest, here) = ("return document.querySelector('#series time').dateTime", "return document.activeElement.href || ''");
        let (before, was) = (browser.text(newest), browser.text(here));
        eventually(LIMIT * 2, || if browser.text(newest) == before { Err(format!("still of {before}")) } else { Ok(()) });
        assert_eq!((browser.text(here), browser.address()), (was, page));
        assert_eq!(browser.complaints(), Vec::<String>::new());
    });
}

#[test]
fn the_keyboard_alone_reaches_everything_and_one_sees_where_it_is() {
    Demo::start().look(Scripts::Run, |browser| {
        quiet(browser);
        for (page, _) in pages() {
            browser.open(&page);
            assert_eq!(keyboard::walk(browser), Vec::<String>::new(), "{page}");
        }
    });
}

#[test]
fn without_scripts_everything_is_there() {
    Demo::start().look(Scripts::Off, |browser| {
        for (page, content) in pages() {
            browser.open(&page);
            assert!(count(browser, content) > 0, "{page} has no {content}");
        }
        browser.open(&format!("{PAGE}/"));
        // Six of ping, two of HTTP, one of iperf3; and what is known of a mesh, if it is shown there.
        assert!(series(browser).len() >= 9, "{:?}", series(browser));
        assert!(count(browser, "#series svg") > 0, "the lines of the last values");
    });
}

#[test]
fn every_chart_says_in_words_what_it_shows() {
    Demo::start().look(Scripts::Run, |browser| {
        for (kind, probe) in [("ping", "core"), ("http", "portal"), ("iperf3", "backbone")] {
            browser.open(&of_target(kind, probe, "127.0.0.1"));
            let words = "return [...document.querySelectorAll('figure.chart')].map(figure => {
                const svg = figure.querySelector('svg');
                const text = selector => figure.querySelector(selector)?.textContent.trim() || '';
                return [figure.id, svg?.getAttribute('role') || '', text('svg > title'), text('svg > desc'), text('figcaption'),
                    figure.querySelector(\"a[href*='.svg']\")?.href || '', figure.querySelector(\"a[href*='.csv']\")?.href || '']; })";
            let charts: Vec<[String; 7]> = serde_json::from_value(browser.run(words, &[])).expect("words are text");
            assert!(!charts.is_empty(), "{kind} has no chart");
            for chart in charts {
                assert!(chart.iter().all(|part| !part.is_empty()), "{kind}: something has no words: {chart:?}");
                assert_eq!((chart[0].starts_with("chart-"), chart[1].as_str()), (true, "img"), "{chart:?}");
            }
        }
    });
}

/// (W1)
#[test]
fn w1_hostile_names_and_answers_are_text_and_no_script_of_theirs_ran() {
    Demo::start().look(Scripts::Run, |browser| {
        let own = "return [document.title, document.querySelectorAll('script:not([src]), [onerror], [onload], img[src=x]').length]";
        let in_order = |page: &str| {
            let Value::Array(found) = browser.run(own, &[]) else { panic!("{page} is no page") };
            assert!(!["1", "2", ""].contains(&found[0].as_str().unwrap_or_default()), "{page}: {found:?}");
            assert_eq!(found[1], 0, "{page}");
            assert_eq!(browser.complaints(), Vec::<String>::new(), "{page}");
        };
        browser.open(&format!("{PAGE}/"));
        in_order("the overview");
        assert!(series(browser).iter().any(|row| row.contains(HOSTILE)), "its name is not shown: {:?}", series(browser));
        let link = "const link = [...document.querySelectorAll('#series a')].find(link => link.textContent.includes(arguments[0]));
            link?.focus(); return !!link;";
        assert_eq!(browser.run(link, &[HOSTILE.into()]), true, "no link has its name");
        browser.press([ENTER]);
        eventually(LIMIT, || if browser.address().contains("/probe/ping/core/") { Ok(()) } else { Err(browser.address()) });
        in_order("its own page");
        assert!(browser.text("return document.body.textContent").contains(HOSTILE));
        browser.open(&of_target("http", "failing", "failing"));
        in_order("the page of the failing server");
    });
}
