//! Handling of faulty servers and networks, with a server that misbehaves on purpose.

mod environment;
mod limits;

use aws_credential_types::Credentials;

use super::*;
use crate::ports::aws::faulty_server::{FaultyServer, Reaction};
use crate::ports::ec2::InstanceState;

const SHORT_DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_millis(400),
    attempt: Duration::from_millis(400),
    request: Duration::from_secs(4),
    credentials: Duration::from_millis(400),
    metadata: Duration::from_millis(400),
};

fn client_at(endpoint: &str, limit: Duration, deadlines: Deadlines) -> ApiClient {
    let settings = Ec2Settings {
        region: Some("eu-west-1".to_owned()),
        endpoint: Some(endpoint.to_owned()),
    };
    let keys = Credentials::new("id", "secret", None, None, "test");
    let keys = SharedCredentialsProvider::new(keys);
    ApiClient::with_options(&settings, limit, deadlines, Some(keys)).unwrap()
}

fn client(server: &FaultyServer) -> ApiClient {
    client_at(&server.endpoint(), Duration::from_secs(60), SHORT_DEADLINES)
}

/// For servers that answer in the end, on a busy machine.
fn patient_client(server: &FaultyServer) -> ApiClient {
    client_at(
        &server.endpoint(),
        Duration::from_secs(60),
        Deadlines::default(),
    )
}

fn respond(status: u16, body: &str) -> Reaction {
    let length = body.len();
    Reaction::Respond(
        format!("HTTP/1.1 {status} So\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n{body}")
            .into(),
    )
}

fn error(status: u16, code: &str) -> Reaction {
    respond(
        status,
        &format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>In words.</Message></Error></Errors><RequestID>7a62c49f</RequestID></Response>"
        ),
    )
}

const CHANGED: &str = "<AssociateAddressResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>7a62c49f</requestId><return>true</return><associationId>eipassoc-1</associationId></AssociateAddressResponse>";

fn allocation() -> AllocationId {
    "eipalloc-0a1b2c3d".parse().unwrap()
}

fn interface() -> InterfaceId {
    "eni-0a1b2c3d".parse().unwrap()
}

fn associate(client: &ApiClient, mode: Mode) -> Result<(), Ec2Error> {
    let association = Association {
        allocation: &allocation(),
        interface: &interface(),
        private_address: Some(Ipv4Addr::new(10, 0, 0, 5)),
    };
    client.associate(&association, mode)
}

#[test]
fn request_is_a_signed_form() {
    let server = FaultyServer::start(vec![respond(200, CHANGED)]);
    associate(&client(&server), Mode::DryRun).unwrap();
    let head = &server.request_heads()[0];
    assert!(head.starts_with("POST / "), "{head}");
    assert!(
        head.contains("/eu-west-1/ec2/aws4_request") && head.contains("user-agent: trueup/"),
        "{head}"
    );
    assert_eq!(
        server.request_bodies()[0],
        "Action=AssociateAddress&AllocationId=eipalloc-0a1b2c3d&NetworkInterfaceId=eni-0a1b2c3d&AllowReassociation=true&PrivateIpAddress=10.0.0.5&DryRun=true&Version=2016-11-15"
    );
}

#[test]
fn busy_or_failing_api_is_retried_and_a_refusal_is_not() {
    for (status, code, attempts) in [
        (503, "RequestLimitExceeded", 3),
        (400, "Throttling", 3),
        (500, "InternalError", 3),
        (503, "Unavailable", 3),
        (403, "UnauthorizedOperation", 1),
        (401, "AuthFailure", 1),
        (400, "InvalidAllocationID.NotFound", 1),
    ] {
        let server = FaultyServer::start(vec![error(status, code)]);
        let failed = associate(&patient_client(&server), Mode::Execute).unwrap_err();
        assert!(failed.to_string().contains(code), "{failed}");
        assert!(failed.hint().is_some(), "{failed}");
        assert_eq!(server.request_heads().len(), attempts, "{code}");
        assert_eq!(failed.is_transient(), attempts > 1, "{code}");
        let server = FaultyServer::start(vec![error(status, code), respond(200, CHANGED)]);
        let then = associate(&patient_client(&server), Mode::Execute);
        assert_eq!(then.is_ok(), attempts > 1, "{code}: {then:?}");
    }
}

#[test]
fn silent_api_is_unreachable_by_the_deadline() {
    let server = FaultyServer::start(vec![Reaction::Hang]);
    let failed = associate(&client(&server), Mode::Execute).unwrap_err();
    assert!(failed.is_transient(), "{failed}");
    assert_eq!(server.request_heads().len(), 3, "three attempts");

    let server = FaultyServer::start(vec![Reaction::Hang]);
    let started = Instant::now();
    let client = client_at(
        &server.endpoint(),
        Duration::from_millis(200),
        Deadlines::default(),
    );
    let failed = associate(&client, Mode::Execute).unwrap_err();
    assert!(failed.to_string().contains("timed out after"), "{failed}");
    assert!(started.elapsed() < Duration::from_secs(5));
    let failed = associate(&client, Mode::Execute).unwrap_err();
    assert!(failed.to_string().contains("timed out after"), "{failed}");
}

#[test]
fn unreachable_endpoint_error_names_its_cause() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let client = client_at(&closed, Duration::from_secs(10), SHORT_DEADLINES);
    let failed = associate(&client, Mode::Execute).unwrap_err().to_string();
    assert!(failed.contains("Connection refused"), "{failed}");
    assert!(
        failed.contains(closed.trim_start_matches("http://")),
        "{failed}"
    );
}

#[test]
fn dry_run_reports_permission_and_changes_nothing() {
    let server = FaultyServer::start(vec![error(412, "DryRunOperation")]);
    associate(&client(&server), Mode::DryRun).unwrap();
    let server = FaultyServer::start(vec![error(412, "DryRunOperation")]);
    assert!(associate(&client(&server), Mode::Execute).is_err());
    let server = FaultyServer::start(vec![error(403, "UnauthorizedOperation")]);
    let refused = associate(&client(&server), Mode::DryRun).unwrap_err();
    assert!(
        refused.hint().unwrap().contains("ec2:AssociateAddress"),
        "{refused}"
    );
}

#[test]
fn answer_to_another_call_is_an_error() {
    for body in [
        "",
        "<html><body>A proxy's page</body></html>",
        "<AssociateAddressResponse><return>false</return></AssociateAddressResponse>",
    ] {
        let server = FaultyServer::start(vec![respond(200, body)]);
        let client = client(&server);
        for failed in [
            associate(&client, Mode::Execute),
            client.instances(&[]).map(drop),
            client.elastic_ip(&allocation()).map(drop),
            client.interfaces_with(Ipv4Addr::LOCALHOST).map(drop),
        ] {
            let failed = failed.unwrap_err();
            assert!(failed.to_string().contains("it answered with"), "{failed}");
        }
    }
    let server = FaultyServer::start(vec![respond(404, "<h1>gone</h1>")]);
    let failed = associate(&client(&server), Mode::Execute).unwrap_err();
    assert!(failed.to_string().contains("an EC2 server?"), "{failed}");
}

fn instance(id: &str, state: &str, address: &str) -> String {
    format!(
        "<item><reservationId>r-1</reservationId><groupSet/><instancesSet><item><instanceId>{id}</instanceId><instanceState><code>16</code><name>{state}</name></instanceState><productCodes/>{address}<placement><availabilityZone>eu-west-1a</availabilityZone><tenancy>default</tenancy></placement><networkInterfaceSet><item><groupSet><item><groupId>sg-1</groupId></item></groupSet><privateIpAddress>10.9.9.9</privateIpAddress></item></networkInterfaceSet><tagSet><item><key>Name</key><value>web &amp; &#252;</value></item><item><key>empty</key><value/></item></tagSet></item></instancesSet></item>"
    )
}

fn page(items: &str, next: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\n    <requestId>7a62c49f</requestId>\n    <reservationSet>{items}</reservationSet>{next}</DescribeInstancesResponse>"
    )
}

#[test]
fn instances_are_read_to_the_last_page() {
    let private = "<privateIpAddress>10.0.0.7</privateIpAddress><ipAddress>203.0.113.7</ipAddress>";
    let first = page(
        &instance("i-0a", "running", private),
        "<nextToken>t+1</nextToken>",
    );
    let last = page(&instance("i-0b", "terminated", ""), "");
    let server = FaultyServer::start(vec![respond(200, &first), respond(200, &last)]);
    let filter = Filter {
        name: "tag:role",
        values: &["web", "a b&c"],
    };
    let instances = client(&server).instances(&[filter]).unwrap();
    assert_eq!(instances.len(), 2);
    assert_eq!(instances[0].id.to_string(), "i-0a");
    assert_eq!(instances[0].state, InstanceState::Running);
    assert_eq!(
        instances[0].private_address,
        Some(Ipv4Addr::new(10, 0, 0, 7))
    );
    assert_eq!(instances[0].zone, "eu-west-1a");
    assert_eq!(instances[0].tags["Name"], "web & ü");
    assert_eq!(instances[0].tags["empty"], "");
    assert_eq!(
        (instances[1].state, instances[1].private_address),
        (InstanceState::Terminated, None)
    );
    let requests = server.request_bodies();
    assert!(
        requests[0].contains(
            "Filter.1.Name=tag%3Arole&Filter.1.Value.1=web&Filter.1.Value.2=a+b%26c&MaxResults=200"
        ),
        "{requests:?}"
    );
    assert!(requests[1].contains("NextToken=t%2B1"), "{requests:?}");
}

#[test]
fn value_of_another_type_is_refused() {
    for (id, address) in [
        ("eni-0a", ""),
        ("i-0a&#10;x", ""),
        ("", ""),
        ("i-0a", "<privateIpAddress>web.example</privateIpAddress>"),
    ] {
        let body = page(&instance(id, "running", address), "");
        let server = FaultyServer::start(vec![respond(200, &body)]);
        let failed = client(&server).instances(&[]).unwrap_err();
        assert!(failed.to_string().contains("it answered with"), "{failed}");
    }
}

#[test]
fn elastic_ip_says_who_has_it() {
    let address = |fields: &str| {
        let id = allocation();
        respond(
            200,
            &format!(
                "<DescribeAddressesResponse><requestId>7a</requestId><addressesSet><item><publicIp>203.0.113.9</publicIp><allocationId>{id}</allocationId><domain>vpc</domain>{fields}</item></addressesSet></DescribeAddressesResponse>"
            ),
        )
    };
    let held = "<instanceId>i-0a</instanceId><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId><privateIpAddress>10.0.0.5</privateIpAddress>";
    let server = FaultyServer::start(vec![address(held), address("<instanceId/>")]);
    let client = client(&server);
    let found = client.elastic_ip(&allocation()).unwrap();
    assert_eq!(found.public_address, Ipv4Addr::new(203, 0, 113, 9));
    assert_eq!(found.interface, Some(interface()));
    assert_eq!(found.instance.unwrap().to_string(), "i-0a");
    let free = client.elastic_ip(&allocation()).unwrap();
    assert_eq!((free.interface, free.instance), (None, None));
    let other: AllocationId = "eipalloc-0f".parse().unwrap();
    let failed = client.elastic_ip(&other).unwrap_err().to_string();
    assert!(failed.contains("other addresses"), "{failed}");
}

#[test]
fn private_address_is_assigned_and_found() {
    let found = "<DescribeNetworkInterfacesResponse><networkInterfaceSet><item><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId><vpcId>vpc-1</vpcId><attachment><instanceId>i-0a</instanceId></attachment></item></networkInterfaceSet></DescribeNetworkInterfacesResponse>";
    let assigned = "<AssignPrivateIpAddressesResponse><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId></AssignPrivateIpAddressesResponse>";
    let server = FaultyServer::start(vec![respond(200, assigned), respond(200, found)]);
    let client = client(&server);
    let address = Ipv4Addr::new(10, 0, 0, 5);
    client.assign(&interface(), address, Mode::Execute).unwrap();
    let interfaces = client.interfaces_with(address).unwrap();
    assert_eq!(interfaces[0].id, interface());
    assert_eq!(
        server.request_bodies()[0],
        "Action=AssignPrivateIpAddresses&NetworkInterfaceId=eni-0a1b2c3d&PrivateIpAddress.1=10.0.0.5&AllowReassignment=true&Version=2016-11-15"
    );
}
