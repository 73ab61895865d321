"""A CoAP server of aiocoap that keeps what is put, and adds what a PATCH has: aiocoap_server.py ADDRESS PORT FILE...

Each FILE is there from the start, under its name.

It cuts responses into blocks itself. aiocoap's own assembly keeps a response for each client, and answers 4.08 to a
client that begins in the middle, so a download could not go on at another server.
"""
import asyncio
import hashlib
import os
import sys

import aiocoap
import aiocoap.resource as resource
from aiocoap.numbers.codes import Code


class Store(resource.Resource, resource.PathCapable):
    def __init__(self):
        super().__init__()
        self.kept = {}
        for file in sys.argv[3:]:
            with open(file, "rb") as found:
                self.keep((os.path.basename(file),), found.read(), None)

    def keep(self, path, payload, content_format):
        self.kept[path] = (payload, content_format, hashlib.sha256(payload).digest()[:8])

    async def needs_blockwise_assembly(self, request):
        return request.code != Code.GET

    async def render(self, request):
        path = request.opt.uri_path
        if request.code == Code.PUT:
            code = Code.CHANGED if path in self.kept else Code.CREATED
            self.keep(path, request.payload, request.opt.content_format)
            return aiocoap.Message(code=code)
        if request.code == Code.PATCH and path in self.kept:
            payload, content_format, _ = self.kept[path]
            self.keep(path, payload + request.payload, content_format)
            return aiocoap.Message(code=Code.CHANGED)
        if request.code == Code.POST:
            return aiocoap.Message(code=Code.CHANGED, payload=request.payload)
        if request.code == Code.DELETE:
            self.kept.pop(path, None)
            return aiocoap.Message(code=Code.DELETED)
        if path not in self.kept:
            return aiocoap.Message(code=Code.NOT_FOUND)
        payload, content_format, etag = self.kept[path]
        block = request.opt.block2
        number, size = (block.block_number, block.size_exponent) if block else (0, 6)
        start, length = number << (size + 4), 16 << size
        answer = aiocoap.Message(code=Code.CONTENT, payload=payload[start:start + length])
        if len(payload) > length:
            answer.opt.block2 = (number, start + length < len(payload), size)
        answer.opt.content_format = content_format
        answer.opt.etag = etag
        return answer


async def main():
    await aiocoap.Context.create_server_context(Store(), bind=(sys.argv[1], int(sys.argv[2])))
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
