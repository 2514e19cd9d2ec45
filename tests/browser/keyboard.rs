//! A person who has a keyboard and nothing else.

use serde_json::Value;

use crate::bed::eventually;
use crate::driver::{Browser, LIMIT, TAB};

/// Numbers what can have the focus and is seen, and gives a name for each.
const NUMBER: &str = "
    const wanted = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]';
    const seen = element => element.checkVisibility({ visibilityProperty: true }) && !element.disabled && element.tabIndex >= 0;
    const all = [...document.querySelectorAll(wanted)].filter(seen);
    all.forEach((element, number) => element.dataset.walked = number);
    document.activeElement.blur();
    return all.map(element => element.outerHTML.slice(0, 120));";

/// The number of what has the focus, and whether one sees that: it looks different from how it looks without. Once for each,
/// as to look takes the focus away and back: within a date it would be at the day again, for ever.
const LOOK: &str = "
    const element = document.activeElement;
    if (!element || element.dataset.walked === undefined || element.dataset.looked) return null;
    element.dataset.looked = true;
    const style = getComputedStyle(element);
    const look = () => [style.outlineStyle === 'none' ? '' : style.outlineStyle + style.outlineWidth + style.outlineColor,
        style.boxShadow, style.borderColor, style.backgroundColor, style.textDecoration].join();
    const focused = look();
    element.blur();
    const without = look();
    element.focus({ focusVisible: true });
    return [Number(element.dataset.walked), focused !== without];";

/// Goes through the page with Tab; tells what is not reached, and at what one does not see the focus.
pub(crate) fn walk(browser: &Browser) -> Vec<String> {
    let all: Vec<String> = serde_json::from_value(browser.run(NUMBER, &[])).expect("names are text");
    let mut seen = vec![None; all.len()];
    // Some have several places to stop at: a date has one for the day, one for the month, …
    for _ in 0..all.len() + 40 {
        browser.press([TAB]);
        let Value::Array(found) = browser.run(LOOK, &[]) else { continue };
        let number = found[0].as_u64().and_then(|number| usize::try_from(number).ok()).expect("it was numbered");
        seen[number] = Some(found[1] == true);
    }
    let told = all.iter().zip(seen).filter_map(|(name, seen)| match seen {
        None => Some(format!("is not reached: {name}")),
        Some(false) => Some(format!("has the focus, which is not seen: {name}")),
        Some(true) => None,
    });
    told.collect()
}

/// Gives the focus to the first element that fits; fails if there is none.
pub(crate) fn focus(browser: &Browser, selector: &str) {
    let found = "const found = document.querySelector(arguments[0]); found?.focus(); return !!found && found === document.activeElement;";
    assert_eq!(browser.run(found, &[selector.into()]), true, "nothing at {} can have the focus as {selector}", browser.address());
}

/// Waits until the address has all of this in its query.
pub(crate) fn arrives(browser: &Browser, parts: &[&str]) {
    eventually(LIMIT, || {
        let address = browser.address();
        let query = address.split_once('?').map_or("", |(_, query)| query);
        let there = parts.iter().all(|part| query.split('&').any(|one| one.starts_with(part)));
        if there { Ok(()) } else { Err(format!("{address} has not all of {parts:?}")) }
    });
}
