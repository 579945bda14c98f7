use throwaway_postgres::{Cluster, Error};

#[test]
fn a_fresh_cluster_answers_and_is_durable_by_default() {
    let cluster = Cluster::start().unwrap();
    assert_eq!(cluster.psql("select 1 + 1").unwrap(), "2");
    let release: u32 = cluster
        .psql("show server_version_num")
        .unwrap()
        .parse()
        .unwrap();
    assert!(release >= 150_000, "{release}");
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        assert_eq!(
            cluster.psql(&format!("show {setting}")).unwrap(),
            "on",
            "{setting}"
        );
    }
}

#[test]
fn a_cluster_listens_on_the_loopback_address_only_and_asks_for_a_password() {
    let cluster = Cluster::builder().fsync(false).start().unwrap();
    assert_eq!(cluster.psql("show listen_addresses").unwrap(), "127.0.0.1");
    assert_eq!(
        cluster.psql("show port").unwrap(),
        cluster.port().to_string()
    );
    let mut url = url::Url::parse(cluster.url()).unwrap();
    url.set_password(Some("wrong")).unwrap();
    let refused = throwaway_postgres::Psql::new(url.as_str())
        .unwrap()
        .query("select 1")
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("password authentication failed"),
        "{refused}"
    );
}

#[test]
fn settings_reach_the_server_and_the_last_one_counts() {
    let cluster = Cluster::builder()
        .fsync(true)
        .fsync(false)
        .setting("work_mem", "4MB")
        .setting("work_mem", "16MB")
        .setting("app.motto", "it's a 'quoted' \\ value")
        .start()
        .unwrap();
    let check = |name, value| assert_eq!(cluster.psql(&format!("show {name}")).unwrap(), value);
    check("fsync", "off");
    check("work_mem", "16MB");
    check("app.motto", "it's a 'quoted' \\ value");
}

#[test]
fn a_wrong_setting_is_told_with_the_words_of_the_server() {
    let error = Cluster::builder()
        .setting("no_such_setting", "1")
        .start()
        .unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error:?}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[test]
fn an_immediate_restart_keeps_what_was_committed() {
    let cluster = Cluster::start().unwrap();
    cluster
        .psql("create table kept as select generate_series(1, 1000) as n")
        .unwrap();
    let (url, pid) = (cluster.url().to_owned(), cluster.pid());
    cluster.restart_immediate().unwrap();
    assert_eq!(cluster.psql("select count(*) from kept").unwrap(), "1000");
    assert_eq!(cluster.url(), url);
    assert_ne!(cluster.pid(), pid);
}

#[test]
fn a_stopped_cluster_refuses_until_it_is_started_again() {
    let cluster = Cluster::builder().fsync(false).start().unwrap();
    cluster.psql("create table kept as select 1 as n").unwrap();
    assert!(matches!(cluster.start_again(), Err(Error::Running)));
    cluster.stop().unwrap();
    cluster.stop().unwrap();
    assert_eq!(cluster.pid(), None);
    assert!(matches!(cluster.psql("select 1"), Err(Error::Psql { .. })));
    cluster.start_again().unwrap();
    assert_eq!(cluster.psql("select n from kept").unwrap(), "1");
}

#[test]
fn two_clusters_run_side_by_side() {
    let (one, two) = (Cluster::start().unwrap(), Cluster::start().unwrap());
    one.psql("create table only_here (n int)").unwrap();
    assert_ne!(one.port(), two.port());
    assert_eq!(
        two.psql("select to_regclass('only_here') is null").unwrap(),
        "t"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn the_server_never_runs_as_root() {
    use std::os::unix::fs::MetadataExt as _;

    let cluster = Cluster::builder().fsync(false).start().unwrap();
    let process = std::fs::metadata(format!("/proc/{}", cluster.pid().unwrap())).unwrap();
    let caller = nix::unistd::geteuid();
    assert_ne!(process.uid(), 0);
    assert_eq!(
        process.uid() != caller.as_raw(),
        caller.is_root(),
        "only root is replaced"
    );
    assert_eq!(
        std::fs::metadata(cluster.directory()).unwrap().uid(),
        process.uid()
    );
}
