"""moto's EC2, and beside it the metadata service of one of its instances: tests/ec2-server.

It listens on ADDRESS and PORT for both: moto answers every path but /latest/. Writes `env` into its folder when it answers.
"""

import os
import sys
import threading
import time

import boto3
import moto.ec2.models.elastic_network_interfaces as moto_interfaces
from botocore.config import Config
from flask import Flask, Response, request
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

REGION = "eu-west-1"
TOKEN = "token-of-the-session"


def metadata_app(values):
    """IMDSv2: a session's token first, then one value for each path."""
    app = Flask("metadata")

    @app.put("/latest/api/token")
    def token():
        return Response(TOKEN, headers={"x-aws-ec2-metadata-token-ttl-seconds": "600"})

    @app.get("/latest/meta-data/<path:path>")
    def value(path):
        if request.headers.get("x-aws-ec2-metadata-token") != TOKEN:
            return Response("", 401)
        return values[path] if path in values else Response("", 404)

    return app


def let_private_addresses_move():
    """moto finds an interface only by its primary address, and lets two have the same."""
    interface = moto_interfaces.NetworkInterface
    backend = moto_interfaces.NetworkInterfaceBackend
    filter_value, assign = interface.get_filter_value, backend.assign_private_ip_addresses

    def get_filter_value(self, name, method=None):
        if name == "addresses.private-ip-address":
            return [each.get("PrivateIpAddress") for each in self.private_ip_addresses]
        return filter_value(self, name, method)

    def assign_private_ip_addresses(self, eni_id, addresses=None, count=None):
        for other in self.enis.values():
            if other.id != eni_id and addresses:
                other.private_ip_addresses = [
                    each for each in other.private_ip_addresses if each.get("PrivateIpAddress") not in addresses
                ]
        return assign(self, eni_id, addresses, count)

    interface.get_filter_value = get_filter_value
    backend.assign_private_ip_addresses = assign_private_ip_addresses


def instances_of_hosts(ec2, image, hosts):
    """An instance at the address of each host, and an elastic IP."""
    network = next(iter(hosts.values())).rpartition(".")[0]
    vpc = ec2.create_vpc(CidrBlock=f"{network}.0/24")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"{network}.0/24")["Subnet"]["SubnetId"]
    lines = {"TRUEUP_TEST_EC2_ALLOCATION": ec2.allocate_address(Domain="vpc")["AllocationId"], "TRUEUP_TEST_EC2_SUBNET": subnet}
    for name, address in hosts.items():
        interface = {"DeviceIndex": 0, "SubnetId": subnet, "PrivateIpAddress": address}
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}, {"Key": "role", "Value": name.rstrip("0123456789")}]}]
        made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, NetworkInterfaces=[interface], TagSpecifications=tags)
        instance = made["Instances"][0]
        lines[f"TRUEUP_TEST_EC2_INSTANCE_{name}"] = instance["InstanceId"]
        lines[f"TRUEUP_TEST_EC2_INTERFACE_{name}"] = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    return lines


def instances_of_tests(ec2, image, values):
    """Two instances, and two elastic IPs of the second one; the metadata are those of the first one."""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": "balancer & more"}]}]
    instances = ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2, TagSpecifications=tags)["Instances"]
    interfaces = [instance["NetworkInterfaces"][0]["NetworkInterfaceId"] for instance in instances]
    allocations = [ec2.allocate_address(Domain="vpc")["AllocationId"] for _ in range(2)]
    for allocation in allocations:
        ec2.associate_address(AllocationId=allocation, NetworkInterfaceId=interfaces[1])
    mac = "0e:49:61:0f:c3:11"
    values.update(
        {
            "instance-id": instances[0]["InstanceId"],
            "placement/region": REGION,
            "mac": mac,
            f"network/interfaces/macs/{mac}/interface-id": interfaces[0],
        }
    )
    return {
        "TRUEUP_TEST_EC2_INSTANCES": ",".join(instance["InstanceId"] for instance in instances),
        "TRUEUP_TEST_EC2_INTERFACES": ",".join(interfaces),
        "TRUEUP_TEST_EC2_ALLOCATIONS": ",".join(allocations),
    }


def main():
    let_private_addresses_move()
    bind, port = sys.argv[1], int(sys.argv[2])
    hosts = dict(host.split("=") for host in sys.argv[3:])
    values = {}
    metadata = metadata_app(values)
    moto = DomainDispatcherApplication(create_backend_app)

    def dispatch(environ, start_response):
        app = metadata if environ["PATH_INFO"].startswith("/latest/") else moto
        return app(environ, start_response)

    server = make_server(bind, port, dispatch, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://{bind}:{port}"
    ec2 = boto3.client(
        "ec2",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=1, read_timeout=20),
    )
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    lines = {"TRUEUP_TEST_EC2_ENDPOINT": endpoint}
    lines.update(instances_of_hosts(ec2, image, hosts) if hosts else instances_of_tests(ec2, image, values))
    with open("env.new", "w") as file:
        file.writelines(f"export {name}={value}\n" for name, value in lines.items())
    os.rename("env.new", "env")
    while True:
        time.sleep(3600)


main()
