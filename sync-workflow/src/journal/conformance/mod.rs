//! The conformance suite: what every journal does, one case per sentence of the port.
//!
//! [`journal_conformance!`](crate::journal_conformance) makes a test of every case. The
//! [`differential`] test holds two journals against each other.
//!
//! ```text
//! async fn fresh() -> (std::sync::Arc<dyn Journal>, tempfile::TempDir) { … }
//!
//! sync_workflow::journal_conformance!(fresh);
//! ```

pub mod differential;
mod world;

macro_rules! cases {
    ($($file:ident),* $(,)?) => { $(
        #[expect(missing_docs, reason = "the name of a case is its documentation")]
        pub mod $file;
    )* };
}

cases!(
    builds,
    children,
    claims,
    closing,
    commits,
    debouncing,
    deletion,
    dropping,
    forking,
    importing,
    nodes,
    operators,
    pausing,
    pieces,
    publishing,
    queues,
    reading,
    schedules,
    signalled_starts,
    signals,
    starts,
    steps,
    suspension,
    tags
);

/// Makes a test of every case of the conformance suite, each named as the case.
///
/// Takes the path of an async function without arguments that returns a fresh, empty journal, as
/// `Arc<dyn Journal>`, and a value that is kept until the case has ended: the directory of the file, the
/// database to drop. The calling crate needs `tokio` with its macros and the multi-thread runtime.
#[macro_export]
macro_rules! journal_conformance {
    ($fresh:path) => {
        $crate::journal_conformance! { @cases $fresh;
            builds {
                a_run_stays_with_the_build_that_took_it
                new_runs_go_to_the_current_build
                a_run_that_continues_as_new_is_of_no_build
                a_look_sees_what_a_claim_of_the_build_would_take
                builds_are_listed_with_their_workers_and_open_runs
                a_run_moves_as_it_was_replayed_and_not_otherwise
                a_parked_run_moves_and_stays_parked
                a_move_and_a_claim_at_once_agree
                only_who_takes_new_runs_admits_them
            }
            children {
                a_child_born_here_is_owned_at_once
                a_child_for_anyone_is_claimable_and_knows_its_parent
                a_child_whose_workflow_id_is_taken_is_reported
                a_parent_is_told_that_its_child_has_closed
                a_parent_and_its_child_may_close_in_one_batch
                a_parent_that_suspends_in_the_batch_in_which_its_child_closes_stays_awake
                a_parent_is_told_of_each_child_when_many_close_at_once
                a_sleeping_parent_wakes_when_its_child_closes
                a_parent_finds_the_outcomes_of_its_children
                children_are_asked_to_cancel_when_their_parent_closes
                an_abandoned_child_goes_on_alone
            }
            claims {
                a_run_is_claimed_once
                concurrent_claims_share_the_runs_out
                a_claim_takes_only_its_queue_and_its_workflows
                a_claim_takes_the_earliest_and_no_more_than_its_limit
                a_run_is_not_claimed_before_its_time
                an_attempt_is_counted_in_the_claim
                progress_forgives_attempts
                a_claim_tells_all_about_the_run
                a_trace_reaches_runs_however_they_start
                a_claim_tells_whether_the_run_was_given_up_in_good_order
                a_node_finds_the_runs_that_it_holds
            }
            closing {
                the_end_of_a_run_is_its_last_record
                a_run_that_is_awaited_is_reported_when_it_closes
                a_closed_run_takes_nothing_more
                an_end_of_which_no_parent_hears_is_an_end
                a_run_continues_as_new_in_a_run_of_its_chain
                a_run_that_continues_another_is_born_with_what_is_carried_over
                signals_carry_over_when_a_run_continues_as_new
                a_cancel_request_carries_over_when_a_run_continues_as_new
                the_parent_of_a_run_that_continues_as_new_is_told
            }
            commits {
                records_come_back_in_order_and_in_pages
                a_taken_position_is_never_overwritten
                one_lost_run_does_not_hold_the_others_back
                a_run_of_another_node_is_lost
                payloads_come_back_byte_for_byte
                an_oversized_payload_is_refused_and_nothing_is_written
                attempts_are_kept_overwritten_and_settled
                a_large_batch_commits_as_one
                an_empty_batch_commits
                a_batch_in_doubt_is_told_by_its_records
                a_batch_in_doubt_is_told_wherever_its_run_went
                commits_of_many_tasks_all_happen
            }
            debouncing {
                a_debounced_start_waits_until_it_is_quiet
                who_asks_again_replaces_the_input_and_moves_the_time
                a_debounced_start_waits_no_longer_than_was_asked
                a_run_that_has_begun_is_not_replaced
                only_a_run_that_fits_is_replaced
                a_run_that_waits_for_its_turn_keeps_it_when_it_is_replaced
                a_debounced_start_meets_a_claim
                debounced_starts_at_once_start_one_run
            }
            deletion {
                runs_that_ended_long_enough_ago_are_deleted_with_all_that_is_theirs
                an_open_run_and_a_run_of_another_workflow_stay
                a_run_is_kept_for_as_long_as_was_asked
                a_deletion_is_bounded_and_goes_on_where_it_left_off
                a_child_stays_while_its_parent_is_open
                the_signals_of_a_chain_go_with_its_last_run
                a_workflow_id_whose_runs_are_gone_starts_anew
                deletions_at_once_delete_each_run_once
            }
            dropping {
                a_dropped_commit_has_happened_or_not
                a_dropped_start_has_happened_or_not
                a_dropped_signal_is_delivered_once
                a_dropped_request_of_an_operator_has_happened_or_not
                a_dropped_claim_leaves_its_runs_to_the_node_or_to_others
                a_dropped_step_has_happened_or_not
                a_dropped_word_of_a_node_has_happened_or_not
                a_dropped_question_changes_nothing
                a_dropped_change_of_a_schedule_or_a_queue_has_happened_or_not
                a_dropped_deletion_deletes_all_of_a_run_or_nothing
            }
            forking {
                a_fork_begins_with_the_first_records_of_its_origin
                a_fork_that_is_repeated_is_one_fork
                a_fork_needs_an_origin_and_a_workflow_id
                an_open_run_that_is_reset_goes_on_in_a_run_of_its_chain
                a_closed_run_is_reset_while_it_is_the_latest
                resets_at_once_are_one_after_the_other
                a_fork_is_sent_what_its_copied_records_did_not_receive
                a_fork_of_a_run_that_went_on_is_sent_what_nobody_received
                a_fork_shows_what_the_runs_before_its_origin_showed
                a_reset_keeps_the_children_for_which_it_waits
                a_fork_leaves_the_children_of_its_origin
                the_parent_of_a_run_that_is_reset_finds_the_new_run
                a_paused_run_that_is_reset_stays_paused
                an_open_run_that_is_reset_hands_its_turn_on
                a_fork_is_deleted_by_itself
            }
            importing {
                an_imported_run_is_here_as_it_was_there
                an_imported_run_that_is_open_waits_to_be_resumed
                a_run_is_imported_where_nothing_is_in_its_way
            }
            nodes {
                a_fenced_node_cannot_append
                a_fenced_node_can_neither_claim_nor_renew
                a_lease_ends_with_its_row_and_not_with_its_time
                a_live_node_is_not_reaped
                a_reaped_node_s_runs_are_claimable_at_once
                reaping_is_bounded
                a_retired_node_s_claims_do_not_count
                a_renewal_tells_when_another_lease_ends
                a_renewal_that_looks_tells_what_there_is_to_do
            }
            operators {
                a_run_is_asked_to_cancel_once
                a_sleeping_run_wakes_to_cancel
                a_closed_run_cannot_be_asked_to_cancel
                terminating_a_run_fences_its_owner
                terminating_a_run_tells_its_parent_and_its_children
                a_sleeping_run_can_be_terminated
                only_an_open_run_can_be_terminated
                a_parked_run_waits_for_a_person
                parked_runs_are_listed_with_reason_time_and_place
            }
            pausing {
                a_paused_run_is_not_claimed_and_keeps_what_arrives
                a_paused_run_whose_time_has_come_is_not_claimed
                a_run_that_is_held_pauses_when_its_node_gives_it_up
                a_run_that_is_asked_to_pause_hears_of_it
                a_run_pauses_when_its_node_is_gone
                a_parked_run_that_is_unparked_stays_paused
                a_request_to_cancel_resumes_a_paused_run
                a_paused_run_can_be_terminated
                only_an_open_run_pauses_and_only_a_paused_one_resumes
                a_run_that_continues_as_new_stays_paused
            }
            pieces {
                a_piece_comes_back_as_it_was_kept
                pieces_are_kept_for_runs_that_are_there_or_about_to_be
                pieces_are_deleted_with_their_run
            }
            publishing {
                what_a_run_publishes_is_shown_until_it_publishes_again
                a_run_may_publish_with_its_end
                what_a_lost_run_publishes_is_not_shown
                a_fenced_node_publishes_nothing
                what_is_published_is_shown_on_when_a_run_continues_as_new
                a_run_that_is_awaited_is_reported_when_it_publishes
            }
            queues {
                a_queue_admits_no_more_than_its_limit
                a_queue_without_limits_admits_everybody
                keys_take_turns
                of_a_key_the_greatest_priority_goes_first
                all_limits_hold_together
                a_node_has_no_more_admitted_than_it_has_room_for
                only_known_workflows_are_admitted
                a_run_keeps_its_turn_until_it_ends
                a_run_that_continues_as_new_hands_its_turn_on
                a_paused_queue_lets_those_go_on_that_have_begun
                a_run_that_waits_for_its_turn_can_be_cancelled
                a_terminated_run_gives_its_turn_back
                a_run_asks_for_its_turn_when_its_time_has_come
                a_rate_admits_so_many_in_its_period
                claims_at_once_admit_no_more_than_the_limit
                limits_that_admit_nothing_are_refused
                a_batch_starts_runs_with_their_keys
            }
            reading {
                an_unknown_run_is_nothing
                the_latest_run_of_a_workflow_id_is_found
                lists_are_filtered
                lists_are_paged_from_new_to_old
                a_history_is_paged_and_tells_the_time_of_each_record
                a_hint_reaches_whoever_waits
                a_hint_from_before_anybody_listened_is_made_up_for
            }
            schedules {
                a_schedule_is_created_once
                only_the_next_version_of_a_schedule_is_written
                one_of_many_writers_of_a_schedule_succeeds
                schedules_are_listed_in_order_and_in_pages
                schedules_of_a_queue_are_found_when_they_are_due
            }
            signalled_starts {
                a_signal_starts_the_run_that_it_is_for
                a_signal_with_start_finds_the_open_run
                a_signal_with_start_is_delivered_once
                a_closed_run_that_is_kept_takes_no_signal
                a_signal_with_start_follows_a_run_that_continues_as_new
                signals_with_start_at_once_start_one_run
                a_signal_with_start_meets_the_end_of_a_run
                a_signal_leaves_a_delayed_start_delayed
            }
            signals {
                a_signal_is_delivered_once
                signals_arrive_in_order_until_they_are_consumed
                a_signal_of_a_lost_commit_is_not_consumed
                a_signal_finds_the_latest_run_of_a_workflow_id
                a_signal_to_nobody_is_not_open
                a_signal_tells_who_holds_the_run
                what_a_run_sent_is_not_delivered_again_to_a_workflow_that_was_started_anew
                a_node_that_was_declared_dead_sends_no_signal
                concurrent_signals_are_all_counted
            }
            starts {
                a_started_run_has_its_input_at_position_zero
                two_starts_of_one_workflow_id_admit_one
                concurrent_starts_of_one_workflow_id_admit_one
                a_start_that_is_repeated_is_one_start
                a_closed_run_makes_room_as_the_policy_says
                a_batch_starts_runs_here_and_elsewhere
                a_batch_admits_one_run_of_a_workflow_id
            }
            steps {
                a_step_commits_with_its_record
                a_dropped_step_leaves_nothing
                a_step_of_a_fenced_node_is_refused
                a_step_of_a_lost_run_is_refused
            }
            tags {
                a_run_has_the_tags_that_it_is_started_with
                a_run_sets_and_removes_tags_with_its_records
                what_a_lost_run_tags_is_not_kept
                a_run_that_continues_as_new_keeps_its_tags
                a_child_has_its_own_tags
                a_list_by_tags_is_in_order_and_paged
            }
            suspension {
                a_run_without_arrivals_is_given_up
                a_signal_that_arrives_before_the_suspension_refuses_it
                a_cancellation_that_arrives_before_the_suspension_refuses_it
                a_run_whose_time_has_come_is_claimable
                a_signal_wakes_a_sleeping_run
                a_suspension_forgives_attempts
                a_released_run_is_ready_and_its_claim_does_not_count
                a_parked_run_is_not_claimed
            }
        }
    };
    (@cases $fresh:path; $($file:ident { $($case:ident)* })*) => { $($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let (journal, _keep) = $fresh().await;
            if let Err(error) = $crate::journal::conformance::$file::$case(journal).await {
                panic!("{error:?}");
            }
        }
    )*)* };
}
