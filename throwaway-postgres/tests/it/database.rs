use throwaway_postgres::{Cluster, Database, Error, Psql};

#[test]
fn each_database_is_empty_and_its_own() {
    let (one, two) = (Database::create().unwrap(), Database::create().unwrap());
    one.psql("create table only_here (n int)").unwrap();
    assert_ne!(one.name(), two.name());
    assert_eq!(
        two.psql("select to_regclass('only_here') is null").unwrap(),
        "t"
    );
    assert_eq!(two.psql("select current_database()").unwrap(), two.name());
}

#[test]
fn a_dropped_database_is_gone_although_somebody_is_connected() {
    let cluster = Cluster::builder().fsync(false).start().unwrap();
    let database = cluster.create_database().unwrap();
    let name = database.name().to_owned();
    let count = |catalog: &str| {
        let sql = format!("select count(*) from {catalog} where datname = '{name}'");
        cluster.psql(&sql).unwrap()
    };
    let url = database.url().to_owned();
    let sleeper =
        std::thread::spawn(move || Psql::new(&url).unwrap().query("select pg_sleep(600)"));
    crate::eventually("the session", || count("pg_stat_activity") == "1");
    drop(database);
    assert_eq!(count("pg_database"), "0");
    assert!(sleeper.join().unwrap().is_err());
}

#[test]
fn a_database_on_a_server_that_is_not_there_is_an_error_without_the_password() {
    let error = Database::create_at("postgres://me:secret@127.0.0.1:1/postgres").unwrap_err();
    assert!(matches!(error, Error::Psql { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("secret"));
}
