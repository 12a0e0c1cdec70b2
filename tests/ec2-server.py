"""moto's EC2 with two instances, and beside it the metadata service of each: tests/ec2-server.

Writes `env` into its folder when they answer.
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


def serve(app, address="127.0.0.1"):
    """Serves on a free port; returns the address."""
    server = make_server(address, 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{address}:{server.server_port}"


def run_instances_of(ec2, image, addresses):
    """An instance at each of these addresses."""
    network = addresses[0].rpartition(".")[0] + ".0/24"
    vpc = ec2.create_vpc(CidrBlock=network)["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=network)["Subnet"]["SubnetId"]
    for address in addresses:
        interface = {"DeviceIndex": 0, "SubnetId": subnet, "PrivateIpAddress": address}
        yield from ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, NetworkInterfaces=[interface])["Instances"]


def main():
    let_private_addresses_move()
    bind, *addresses = sys.argv[1:]
    endpoint = serve(DomainDispatcherApplication(create_backend_app), bind)
    ec2 = boto3.client(
        "ec2",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=1, read_timeout=20),
    )
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": "balancer & more"}]}]
    if addresses:
        run = list(run_instances_of(ec2, image, addresses))
    else:
        run = ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2, TagSpecifications=tags)["Instances"]
    instances = [instance["InstanceId"] for instance in run]
    interfaces = [instance["NetworkInterfaces"][0]["NetworkInterfaceId"] for instance in run]
    allocations = [ec2.allocate_address(Domain="vpc")["AllocationId"] for _ in range(1 if addresses else 2)]
    metadata = []
    for number, (instance, interface) in enumerate(zip(instances, interfaces)):
        mac = f"0e:49:61:0f:c3:{number:02x}"
        values = {
            "instance-id": instance,
            "placement/region": REGION,
            "mac": mac,
            f"network/interfaces/macs/{mac}/interface-id": interface,
        }
        metadata.append(serve(metadata_app(values)))
    lists = {
        "ENDPOINT": [endpoint],
        "IMAGE": [image],
        "METADATA": metadata,
        "INSTANCES": instances,
        "INTERFACES": interfaces,
        "ALLOCATIONS": allocations,
    }
    with open("env.new", "w") as file:
        file.writelines(f"export TRUEUP_TEST_EC2_{name}={','.join(values)}\n" for name, values in lists.items())
    os.rename("env.new", "env")
    while True:
        time.sleep(3600)


main()
