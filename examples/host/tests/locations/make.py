#!/usr/bin/env python3
"""Makes locations.mmdb with the package mmdb_writer (PyPI, 0.2.7): pip install mmdb_writer; ./make.py

As databases of countries are: IPv4 in a tree of IPv6, records with "country" and "iso_code".
"""
from netaddr import IPSet
from mmdb_writer import MMDBWriter

writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="byway-test-country", languages=["en"],
                    description="for byway's tests")
for country, networks in [("DE", ["192.0.2.0/25", "192.0.2.128/26", "198.51.100.0/24", "2001:db8::/32"]),
                          ("FR", ["192.0.2.192/26", "203.0.113.0/24"]),
                          (None, ["10.0.0.0/8"])]:
    record = {"country": {"iso_code": country, "names": {"en": country}}} if country else {"traits": {"private": "yes"}}
    writer.insert_network(IPSet(networks), record)
writer.to_db_file("locations.mmdb")
