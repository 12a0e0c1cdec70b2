//! Limits on the answers of a hostile server.

use super::*;
use crate::testing::peak_memory;

#[test]
fn list_without_an_end_is_refused() {
    // Each page has another token and reports that more pages follow.
    let server = FaultyServer::start(vec![Reaction::RespondWith(|requests| {
        let items: String = (0..PAGE_SIZE)
            .map(|i| instance(&format!("i-{i:x}"), "running", ""))
            .collect();
        let next = format!("<nextToken>t{}</nextToken>", requests.len());
        let body = page(&items, &next);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into()
    })]);
    let failed = patient_client(&server).instances(&[]).unwrap_err();
    assert!(
        failed.to_string().contains("more than 10000 instances"),
        "{failed}"
    );

    let same = page("", "<nextToken>t</nextToken>");
    let server = FaultyServer::start(vec![respond(200, &same)]);
    let failed = client(&server).instances(&[]).unwrap_err();
    assert!(failed.to_string().contains("same page twice"), "{failed}");
}

#[test]
fn list_with_endless_tags_is_refused() {
    let server = FaultyServer::start(vec![Reaction::RespondWith(|requests| {
        let tags = format!("<value>{}</value>", "x".repeat(300_000));
        let items: String = (0..10)
            .map(|i| instance(&format!("i-{i:x}"), "running", "").replace("<value/>", &tags))
            .collect();
        let next = format!("<nextToken>t{}</nextToken>", requests.len());
        let body = page(&items, &next);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into()
    })]);
    let client = patient_client(&server);
    let (failed, peak) = peak_memory(|| client.instances(&[]).unwrap_err().to_string());
    assert!(failed.contains("more than 32 MiB of tags"), "{failed}");
    assert!(peak < 100 << 20, "{} MiB", peak >> 20);
}

#[test]
fn endless_answer_is_cut_off() {
    for status in [200, 403, 503] {
        let mut endless =
            format!("HTTP/1.1 {status} So\r\nContent-Length: 500000000\r\n\r\n").into_bytes();
        endless.resize(40 << 20, b'<');
        let server = FaultyServer::start(vec![Reaction::RespondAndClose(endless)]);
        let client = patient_client(&server);
        let (failed, peak) = peak_memory(|| associate(&client, Mode::Execute).is_err());
        assert!(failed, "{status}");
        assert!(peak < 24 << 20, "{status}: {} MiB", peak >> 20);
    }
}

#[test]
fn hostile_xml_costs_little_memory_and_no_stack() {
    let entities = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c SYSTEM \"file:///etc/passwd\">]>";
    let bombs = [
        format!(
            "{entities}<DescribeInstancesResponse><reservationSet><item>&b;&c;</item></reservationSet><nextToken>&b;</nextToken></DescribeInstancesResponse>"
        ),
        format!(
            "<DescribeInstancesResponse>{}{}</DescribeInstancesResponse>",
            "<a>".repeat(1 << 19),
            "</a>".repeat(1 << 19)
        ),
        format!(
            "<DescribeInstancesResponse>{}",
            "<reservationSet><item>".repeat(100_000)
        ),
        format!(
            "<DescribeInstancesResponse {}/>",
            "a=\"b\" ".repeat(500_000)
        ),
        "<DescribeInstancesResponse><reservationSet>".to_owned()
            + &"<item/>".repeat(500_000)
            + "</reservationSet></DescribeInstancesResponse>",
    ];
    for bomb in bombs {
        assert!(bomb.len() < MAX_RESPONSE);
        let start = bomb[..40.min(bomb.len())].to_owned();
        let (answer, peak) = peak_memory(|| answers::parse_instances(&bomb).map(|page| page.next));
        assert!(peak < 100 << 20, "{start}: {} MiB", peak >> 20);
        let expanded = format!("{answer:?}");
        assert!(
            !expanded.contains("aaaaaaaaaa") && !expanded.contains("root:"),
            "{start}: {expanded}"
        );
        answers::parse_refusal(403, &bomb);
    }
}

#[test]
fn instance_with_more_tags_than_ec2_allows_is_refused() {
    let tags = |count: usize| {
        let tags: String = (0..count)
            .map(|i| format!("<item><key>{i}</key><value/></item>"))
            .collect();
        page(
            &format!(
                "<item><instancesSet><item><instanceId>i-0a</instanceId><tagSet>{tags}</tagSet></item></instancesSet></item>"
            ),
            "",
        )
    };
    assert!(answers::parse_instances(&tags(100)).is_ok());
    assert!(answers::parse_instances(&tags(101)).is_err());
}

#[test]
fn refusal_of_any_length_is_shown_in_part() {
    let body = format!(
        "<Response><Errors><Error><Code>{0}</Code><Message>{0}</Message></Error></Errors><RequestID>{0}</RequestID></Response>",
        "x".repeat(100_000)
    );
    let server = FaultyServer::start(vec![respond(400, &body)]);
    let failed = associate(&client(&server), Mode::Execute).unwrap_err();
    assert!(failed.to_string().len() < 2000);

    // A line of its own could pass for one of trueup's.
    let body = "<Response><Errors><Error><Code>X</Code><Message>a\n  hint: b\u{1b}[31m</Message></Error></Errors></Response>";
    let server = FaultyServer::start(vec![respond(400, body)]);
    let failed = associate(&client(&server), Mode::Execute).unwrap_err();
    assert!(!failed.to_string().contains(char::is_control), "{failed}");
}
