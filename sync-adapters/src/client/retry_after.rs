//! `Retry-After`, which is a number of seconds or a date.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The longest wait that an answer is believed to ask for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long the answer asks to wait. A date is read against the answer's own `Date`, so that the two
/// clocks need not agree.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        let wait = Duration::try_from_secs_f64(seconds).ok()?;
        return Some(wait.min(LONGEST));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let since = server_date(headers).unwrap_or(now);
    Some(
        until
            .duration_since(since)
            .unwrap_or(Duration::ZERO)
            .min(LONGEST),
    )
}

/// The server's clock, when the answer tells it.
pub(super) fn server_date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(after: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn seconds_and_dates_are_both_understood() {
        assert_eq!(wait("7", None), Some(Duration::from_secs(7)));
        assert_eq!(wait("0.5", None), Some(Duration::from_millis(500)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:50:07 GMT";
        assert_eq!(wait(later, Some(date)), Some(Duration::from_secs(30)));
        assert_eq!(wait(date, Some(later)), Some(Duration::ZERO));
    }

    #[test]
    fn nonsense_is_ignored_and_an_endless_wait_is_bounded() {
        assert_eq!(wait("soon", None), None);
        assert_eq!(wait("-3", None), None);
        assert_eq!(wait("NaN", None), None);
        assert_eq!(wait("9999999999", None), Some(LONGEST));
    }
}
