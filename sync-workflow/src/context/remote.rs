//! Activities that workers of another queue run: each as a child that does nothing else.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Context, call::Call};
use crate::{
    failure::Failure,
    payload,
    replay::{ActivityOptions, ChildRequest, Command, Request},
};

/// The input of the child.
#[derive(Serialize, Deserialize)]
pub(crate) struct RemoteActivity {
    /// What the activity is given.
    input: Box<RawValue>,
    options: ActivityOptions,
}

/// The registered name of the workflow that runs an activity.
pub(crate) fn workflow_name(activity: &str) -> String {
    format!("activity/{activity}")
}

/// Makes a child of a call that is meant for another queue, before it is asked for.
pub(super) fn send_to_queue(command: &mut Command) {
    let Request::Activity { input, options } = &command.request else {
        return;
    };
    let Some(queue) = options.queue.clone() else {
        return;
    };
    let Ok(input) = serde_json::from_slice(input) else {
        // Encoding it failed, and the call says so.
        return;
    };
    let remote = RemoteActivity {
        input,
        options: ActivityOptions::clone(options),
    };
    let Ok(input) = payload::encode(&remote) else {
        return;
    };
    command.name = workflow_name(&command.name).into();
    command.request = Request::Child(ChildRequest {
        queue: Some(queue),
        ..ChildRequest::new(input)
    });
}

impl RemoteActivity {
    /// Runs the activity here.
    pub(crate) async fn run(self, context: Context, name: Arc<str>) -> Result<Bytes, Failure> {
        let input = Bytes::copy_from_slice(self.input.get().as_bytes());
        let fingerprint = payload::fingerprint(&input);
        let options = Arc::new(self.options);
        let request = Request::Activity { input, options };
        let mut call = Call::new(&context, request, name, fingerprint);
        poll_fn(|cx| call.poll(cx)).await
    }
}
