//! Places from which nothing can be seen, and what is said there.

use crate::{
    live::interpreters::usual,
    stage::{Stage, container, word},
};

#[test]
fn a_proc_of_another_pid_namespace_is_refused_before_the_program_starts() {
    let Some(stage) = Stage::new() else { return };
    let python = usual();
    for words in ["attach 1".to_owned(), format!("run --python {} keeper.py", word(&python))] {
        let ended = stage.end(&format!("unshare -pf gilscope {words}"));
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.said.contains("/proc shows the processes of another pid namespace"), "{ended:?}");
        assert!(ended.said.contains("hint: try: mount -t proc proc /proc"), "{ended:?}");
    }
}

#[test]
fn root_of_a_user_namespace_is_told_what_that_is_worth() {
    let Some(stage) = Stage::new() else { return };
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups unshare -Ur -pf --mount-proc";
    let ended = stage.end(&format!("{user} gilscope run --backend uprobe --python /usr/bin/python3 keeper.py"));
    assert_eq!((ended.code, ended.out.as_str()), (Some(3), ""), "{ended:?}");
    assert!(ended.said.contains("hint: you are root of a user namespace only"), "{ended:?}");
    assert!(!ended.said.contains("sudo"), "{ended:?}");
}

/// The dynamic loader cannot open the probe there. The program runs all the same.
#[test]
fn a_root_without_proc_is_explained() {
    let Some(stage) = Stage::new() else { return };
    let ended = stage.end(&format!("gilscope run -- {} none {} /keeper.py", container(&stage, ""), word(&usual())));
    assert!(ended.out.contains("\"kept\""), "{ended:?}");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.said.contains("or that enters a chroot without /proc"), "{ended:?}");
}
