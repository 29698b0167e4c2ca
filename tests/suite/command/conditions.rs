//! Conditions: what each finds, and what cannot be meant.

use std::process::Output;

use super::{answer, filled, run, seqs};
use crate::support::log;

#[test]
fn conditions_find_what_they_say() {
    let fixture = filled(log());
    for (conditions, expected) in [
        ("--action '*:DeleteObject'", &[2, 7, 9][..]),
        ("--action 's3:*Object*'", &[0, 1, 2, 4, 5, 6, 7, 8, 9]),
        ("--action 'kms:*' --action twice", &[11, 12]),
        ("--agent 'ali*'", &[0, 1, 4, 5, 7, 8, 11]),
        ("--agent '*ali*' --agent healthcheck", &[0, 1, 3, 4, 5, 7, 8, 11]),
        ("--workspace '4444*' --resource-id '*'", &[2, 6, 9]),
        ("--where metadata.additionalEventData.riskScore>=0.85", &[2, 6, 7, 9]),
        ("--where metadata.additionalEventData.riskScore=high", &[10]),
        ("--where metadata.sourceIPAddress=*.0.0.1", &[0, 1, 3, 4, 5, 7, 11]),
        ("--where metadata.sourceIPAddress~127.", &[3]),
        ("--where reason~THE", &[1, 2, 9]),
        ("--where reason=*", &[1, 2, 6, 7, 9]),
        ("--where reason!=* --where action!=*:*Object", &[3, 10, 11, 12]),
        ("--where 'agent_id=healthcheck OR metadata.eventName=Decrypt,ConsoleLogin'", &[3, 10, 11]),
        ("--where 'risk_score > 0.9'", &[7]),
        ("--where resource_id=D,E --where decision!=allow", &[1, 2, 6, 7]),
        ("--where metadata.requestID<r3", &[0, 1, 2, 10, 11]),
        ("--where metadata.responseElements=null --where metadata.requestParameters!=*", &[]),
        ("--where metadata.userIdentity.userName!=* --where id!=00000000-0000-0000-0000-000000000007", &[10]),
    ] {
        let lines = answer(&fixture.db, &format!("query --oldest-first --limit 0 {conditions}"));
        assert_eq!(seqs(&lines), expected, "{conditions}");
    }
    let denied = answer(&fixture.db, "stats --by action --where reason=*owner");
    assert!(denied.contains("s3:DeleteObject") && denied.contains("\"entries\":2"), "{denied}");
    assert_eq!(seqs(&answer(&fixture.db, "tail --where 'action=*:DeleteObject'")), [2, 7, 9]);
}

#[test]
fn a_condition_that_cannot_be_meant_is_one_sentence_and_exit_code_2() {
    let fixture = filled(log());
    for (arguments, says) in [
        ("query --where agent_id==alice", "there is no operator =="),
        ("query --where agnet=alice", "did you mean agent_id?"),
        ("tail --where sourceIPAddress=10.0.0.1", "metadata.sourceIPAddress"),
        ("export --where metadata.tags[-1]=a", "[-1] is no index"),
        ("stats --by action --where reason=\"legal", "a quotation mark is missing"),
        ("query --where metadata.additionalEventData.riskScore>=nan", "is not a number"),
        ("query --where agent_id!=ali*", "nobody has checked the names"),
        ("query --where id=alice", "is no UUID"),
        ("query --agent 8463ebe1-9248-5ca7-9c03-e00fcfc2b0f", "is no whole UUID"),
        ("query --agent ''", "--agent has no value"),
        ("query --text 'not*owner'", "takes no wildcard"),
        ("query --risk-min 0.9 --risk-max 0.1", "--risk-min must not be greater"),
        ("query --from-seq 5 --before-seq 5", "--from-seq must be less"),
    ] {
        let Output { status, stdout, stderr } = run(&fixture.db, arguments);
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{arguments}: {stderr}");
        assert!(stderr.contains(says) && stderr.lines().count() == 1, "{arguments}: {stderr}");
        assert!(stdout.is_empty(), "{arguments}");
    }
    for score in ["nan", "inf", "high"] {
        let Output { status, stderr, .. } = run(&fixture.db, &format!("query --risk-min {score}"));
        assert_eq!(status.code(), Some(2));
        assert!(String::from_utf8_lossy(&stderr).contains("is a finite number"), "{score}");
    }
}
