//! What the response headers of an API tell of its budget.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use sync_core::manifest::RateLimitHeaders;

use super::Observation;

/// Reads the headers that the manifest names.
pub(in crate::client) fn observe(
    names: &RateLimitHeaders,
    headers: &HeaderMap,
    now: SystemTime,
) -> Observation {
    let read = |name: &Option<String>| leading_number(headers, name.as_deref()?);
    let limit = read(&names.limit);
    let remaining = read(&names.remaining);
    let used = read(&names.count)
        .or_else(|| Some(limit?.saturating_sub(remaining?)))
        .map(saturate);
    let period = read(&names.period).or_else(|| until_reset(read(&names.reset)?, now));
    Observation {
        limit: limit.filter(|limit| *limit > 0).map(saturate),
        period: period
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        used,
    }
}

/// The number that a header begins with: periods are spelled `20` or `20 seconds`.
fn leading_number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?.trim_start();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..digits].parse().ok()
}

/// Seconds until an instant that is given in seconds since 1970.
fn until_reset(reset: u64, now: SystemTime) -> Option<u64> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    reset.checked_sub(now)
}

fn saturate(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> RateLimitHeaders {
        RateLimitHeaders {
            limit: Some("x-limit".into()),
            period: Some("x-period".into()),
            count: Some("x-count".into()),
            ..RateLimitHeaders::default()
        }
    }

    #[test]
    fn a_period_may_carry_its_unit() {
        for spelling in ["20", "20 seconds"] {
            let mut headers = HeaderMap::new();
            headers.insert("x-limit", "100".parse().unwrap());
            headers.insert("x-period", spelling.parse().unwrap());
            headers.insert("x-count", "42".parse().unwrap());
            let seen = observe(&names(), &headers, SystemTime::UNIX_EPOCH);
            assert_eq!(seen.limit, Some(100));
            assert_eq!(seen.period, Some(Duration::from_secs(20)));
            assert_eq!(seen.used, Some(42));
        }
    }

    #[test]
    fn remaining_and_reset_serve_as_well() {
        let names = RateLimitHeaders {
            limit: Some("x-limit".into()),
            remaining: Some("x-left".into()),
            reset: Some("x-reset".into()),
            ..RateLimitHeaders::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-limit", "60".parse().unwrap());
        headers.insert("x-left", "13".parse().unwrap());
        headers.insert("x-reset", "30".parse().unwrap());
        let seen = observe(&names, &headers, SystemTime::UNIX_EPOCH);
        assert_eq!(seen.used, Some(47));
        assert_eq!(seen.period, Some(Duration::from_secs(30)));
    }

    #[test]
    fn missing_and_senseless_headers_tell_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert("x-limit", "many".parse().unwrap());
        headers.insert("x-period", "0".parse().unwrap());
        assert_eq!(
            observe(&names(), &headers, SystemTime::UNIX_EPOCH),
            Observation::default()
        );
    }
}
