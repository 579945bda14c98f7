//! Workflow code that does what `docs/guide/clippy.toml` is against; each line says which rule it breaks.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant, SystemTime},
};

pub fn order(prices: &HashMap<String, u64>, tags: &HashSet<u64>) -> u64 {
    let begun = Instant::now(); // std::time::Instant::now
    std::thread::sleep(Duration::from_secs(1)); // std::thread::sleep
    let mut sum = begun.elapsed().as_secs(); // std::time::Instant::elapsed
    for price in prices.values() { // iteration
        sum += price;
    }
    for tag in tags { // iteration
        sum += tag;
    }
    std::thread::spawn(|| {}); // std::thread::spawn
    let now = SystemTime::now(); // std::time::SystemTime::now
    sum += now.elapsed().map_or(0, |age| age.as_secs()); // std::time::SystemTime::elapsed
    sum += std::env::var("FEE").map_or(0, |fee| fee.len() as u64); // std::env::var
    sum + std::fs::read("fees").map_or(0, |fees| fees.len() as u64) // std::fs::read
}
