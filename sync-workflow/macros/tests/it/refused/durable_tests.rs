//! Functions that cannot be durable tests.

use sync_workflow::testing::{TestEnvironment, durable_test};

#[durable_test(worker = shop)]
fn not_async(_env: &TestEnvironment) {}

#[durable_test]
async fn without_worker(_env: &TestEnvironment) {}

#[durable_test(worker = shop)]
async fn of_nothing() {}

fn main() {}
