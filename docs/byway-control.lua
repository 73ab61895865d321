-- Wireshark dissector for the control protocol of byway, version 1 (control-protocol.md beside this file).
--
--   tshark -X lua_script:docs/byway-control.lua -r FILE
--   wireshark -X lua_script:docs/byway-control.lua
--
-- Preferences (Edit, Preferences, Protocols, BYWAY): the UDP port, and the keys as "NUMBER:HEX64 NUMBER:HEX64". With
-- the keys the tags are checked: byway.tag_status is then "right", "wrong" or "unknown". On the command line:
--   -o byway.port:5213 -o "byway.keys:1:000102..."

local byway = Proto("byway", "byway control")

local KINDS = { "HELLO", "CHALLENGE", "OPEN", "REQUEST", "ANSWER", "EVENTS", "REFUSAL", "REPORT" }
local NAMES = {
  [1] = "divert", [2] = "remove", [3] = "redivert", [4] = "set timeouts", [5] = "set client limit",
  [6] = "forget", [7] = "name", [8] = "remove name", [21] = "list names",
  [16] = "list rules", [17] = "list connections", [18] = "counters", [19] = "settings", [32] = "subscribe",
  [33] = "close", [20] = "measurements", [34] = "report", [35] = "lead",
}
local CODES = {
  [0] = "done", [1] = "unknown version", [2] = "unknown instruction", [3] = "malformed instruction",
  [4] = "the key does not permit it", [5] = "the table has changed since", [6] = "cannot be one transaction",
  [7] = "no instruction, or too many", [8] = "all sessions are in use", [9] = "others' connections stand there",
  [16] = "table full", [17] = "no room for another server", [18] = "empty group", [19] = "server named twice",
  [20] = "no alternative address", [21] = "impossible target", [22] = "target is the translator", [23] = "to itself",
  [24] = "port zero", [26] = "loop", [27] = "control port",
  [28] = "several shards cannot keep the source", [29] = "not routed to the translator",
  [32] = "no server", [33] = "same server", [34] = "busy", [48] = "time-out too short", [49] = "time-out too long",
  [50] = "client limit too high", [64] = "table of names full", [65] = "too many client prefixes",
  [66] = "no address", [67] = "address twice", [68] = "impossible address", [69] = "time to live too long",
  [70] = "no such rule", [71] = "rule for several addresses", [72] = "rule for other clients",
  [73] = "entries are tied to the rule",
  [80] = "servers are not measured", [81] = "no room for another monitor that gets reports", [255] = "refused",
}
local TIMEOUTS = { "tcp_established", "tcp_transitory", "udp", "icmp", "fragment", "hold" }
local OUTCOMES = { "inserted", "updated", "unchanged", "removed", "absent", "re-diverted", "set", "forgotten" }
local STATES = {
  "opening", "opened", "established", "client closed", "server closed", "closing", "time-wait", "doubtful",
  "resetting", "unanswered", "answered",
}
local PROTOCOLS = { [0] = "", [1] = " icmp", [6] = " tcp", [17] = " udp" }
local HOW = { [0] = "switch", [1] = "drain", [2] = "reset", [3] = "hand over", [4] = "hand over or reset" }
local MIDSTREAM = { [0] = "", [1] = ", midstream pass", [2] = ", midstream adopt", [3] = ", midstream drop" }
local EVENTS = { "opened", "changed", "moved", "closed" }

local f = {
  version = ProtoField.uint8("byway.version", "Version"),
  kind = ProtoField.uint8("byway.kind", "Kind", base.DEC, KINDS),
  sequence = ProtoField.uint32("byway.sequence", "Sequence number"),
  session = ProtoField.bytes("byway.session", "Session"),
  key = ProtoField.uint16("byway.key", "Key"),
  number = ProtoField.uint32("byway.number", "Number of the session"),
  mine = ProtoField.bytes("byway.nonce.monitor", "Monitor's nonce"),
  theirs = ProtoField.bytes("byway.nonce.translator", "Translator's nonce"),
  dry_run = ProtoField.bool("byway.dry_run", "Dry run", 8, nil, 1),
  demands = ProtoField.bool("byway.demands", "Demands a generation", 8, nil, 2),
  generation = ProtoField.uint32("byway.generation", "Generation"),
  count = ProtoField.uint16("byway.count", "Count"),
  instruction = ProtoField.string("byway.instruction", "Instruction"),
  code = ProtoField.uint16("byway.code", "Code", base.DEC, CODES),
  index = ProtoField.uint8("byway.index", "Refused instruction"),
  detail = ProtoField.uint32("byway.detail", "Detail"),
  effect = ProtoField.string("byway.effect", "Effect"),
  told = ProtoField.bytes("byway.told", "Told"),
  lost = ProtoField.uint32("byway.lost", "Events lost"),
  event = ProtoField.string("byway.event", "Event"),
  round = ProtoField.uint32("byway.round", "Report"),
  next = ProtoField.uint32("byway.next", "Next page", base.HEX),
  time = ProtoField.uint64("byway.time", "Translator's time (us)"),
  measured = ProtoField.string("byway.measured", "Measured"),
  tag = ProtoField.bytes("byway.tag", "Tag"),
  status = ProtoField.string("byway.tag_status", "Tag is"),
}
byway.fields = f
byway.prefs.port = Pref.uint("UDP port", 5213, "The port that instructions come to")
byway.prefs.keys = Pref.string("Keys", "", "NUMBER:HEX64, with spaces between several")

-- HMAC-SHA-256 (RFC 2104, RFC 6234), since Wireshark's Lua has none. Lua 5.2 and later: bit32 or operators.

local bits = bit32 or bit
local band, bxor, bnot = bits.band, bits.bxor, bits.bnot
local shr, ror = bits.rshift, bits.rrotate or bits.ror

-- The first 32 bits behind the point of the roots of the first primes: that is how the constants are defined.
local function constants(count, root)
  local found, candidate = {}, 2
  while #found < count do
    local prime = true
    for divisor = 2, math.floor(math.sqrt(candidate)) do
      if candidate % divisor == 0 then prime = false end
    end
    if prime then
      local power = candidate ^ (1 / root)
      found[#found + 1] = math.floor((power - math.floor(power)) * 2 ^ 32)
    end
    candidate = candidate + 1
  end
  return found
end
local K, START = constants(64, 3), constants(8, 2)

local function word(value)
  value = value % 2 ^ 32
  return string.char(
    math.floor(value / 2 ^ 24), math.floor(value / 2 ^ 16) % 256, math.floor(value / 2 ^ 8) % 256, value % 256)
end

local function sha256(bytes)
  local length = #bytes
  bytes = bytes .. "\128" .. string.rep("\0", (55 - length) % 64) .. word(0) .. word(length * 8)
  local h = {}
  for n = 1, 8 do h[n] = START[n] end
  for block = 1, #bytes, 64 do
    local w = {}
    for i = 1, 16 do
      local a, b, c, d = bytes:byte(block + i * 4 - 4, block + i * 4 - 1)
      w[i] = ((a * 256 + b) * 256 + c) * 256 + d
    end
    for i = 17, 64 do
      local x, y = w[i - 15], w[i - 2]
      local s0 = bxor(ror(x, 7), ror(x, 18), shr(x, 3))
      local s1 = bxor(ror(y, 17), ror(y, 19), shr(y, 10))
      w[i] = band(w[i - 16] % 2 ^ 32 + s0 % 2 ^ 32 + w[i - 7] % 2 ^ 32 + s1 % 2 ^ 32, 0xffffffff)
    end
    local a, b, c, d, e, g, i, j = h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8]
    for n = 1, 64 do
      local s1 = bxor(ror(e, 6), ror(e, 11), ror(e, 25))
      local choice = bxor(band(e, g), band(bnot(e), i))
      local t1 = (j + s1 % 2 ^ 32 + choice % 2 ^ 32 + K[n] + w[n] % 2 ^ 32) % 2 ^ 32
      local s0 = bxor(ror(a, 2), ror(a, 13), ror(a, 22))
      local majority = bxor(band(a, b), band(a, c), band(b, c))
      local t2 = (s0 % 2 ^ 32 + majority % 2 ^ 32) % 2 ^ 32
      a, b, c, d, e, g, i, j = (t1 + t2) % 2 ^ 32, a, b, c, (d + t1) % 2 ^ 32, e, g, i
    end
    local now = { a, b, c, d, e, g, i, j }
    for n = 1, 8 do h[n] = (h[n] + now[n]) % 2 ^ 32 end
  end
  local digest = ""
  for n = 1, 8 do digest = digest .. word(h[n]) end
  return digest
end

local function hmac(key, bytes)
  key = key .. string.rep("\0", 64 - #key)
  local function pad(with)
    return (key:gsub(".", function(c) return string.char(bxor(c:byte(), with)) end))
  end
  return sha256(pad(0x5c) .. sha256(pad(0x36) .. bytes))
end

local function keys()
  local found = {}
  for number, digits in tostring(byway.prefs.keys):gmatch("(%d+):(%x+)") do
    if #digits == 64 then
      found[tonumber(number)] = digits:gsub("%x%x", function(x) return string.char(tonumber(x, 16)) end)
    end
  end
  return found
end

-- The keys of the sessions whose CHALLENGE the capture holds, by session. Found again at each new pass of a file.
local sessions = {}
function byway.init() sessions = {} end

local function raw(tvb, at, length) return tvb(at, length):raw() end

-- Words for the parts of instructions.

local function address(tvb, at) return tostring(tvb(at, 4):ipv4()) end

local function endpoint(tvb, at) return address(tvb, at) .. ":" .. tvb(at + 4, 2):uint() end

local function match_words(tvb, at)
  local length, clients = tvb(at + 4, 1):uint(), tvb(at + 7, 1):uint()
  local words = address(tvb, at) .. (length < 32 and "/" .. length or "")
  if tvb(at + 6, 1):uint() == 1 then words = words .. ":" .. tvb(at + 12, 2):uint() end
  words = words .. (PROTOCOLS[tvb(at + 5, 1):uint()] or " ?")
  if clients > 0 then words = words .. " from " .. address(tvb, at + 8) .. "/" .. clients end
  return words
end

local function server_words(tvb, at)
  local kind = tvb(at, 1):uint()
  if kind == 0 then return "same" end
  return kind == 1 and address(tvb, at + 4) or endpoint(tvb, at + 4)
end

-- The names and clients of an entry, and where its answer begins.
local function name_words(tvb, at)
  local clients, stop, labels = tvb(at + 1, 1):uint(), at + 7 + tvb(at + 6, 1):uint(), {}
  local next = at + 7
  while next < stop and tvb(next, 1):uint() > 0 do
    labels[#labels + 1] = tvb(next + 1, tvb(next, 1):uint()):string()
    next = next + 1 + tvb(next, 1):uint()
  end
  local words = (tvb(at, 1):uint() == 1 and "*." or "") .. table.concat(labels, ".")
  if clients > 0 then words = words .. " from " .. address(tvb, at + 2) .. "/" .. clients end
  return words, stop
end

-- Time to live and addresses, or the rule that it is tied to.
local function entry_words(tvb, at)
  local words, next = name_words(tvb, at)
  local ttl, flags, count, all = tvb(next, 4):uint(), tvb(next + 4, 1):uint(), tvb(next + 5, 1):uint(), {}
  next = next + 6
  for _ = 1, count do
    all[#all + 1] = address(tvb, next) .. (count > 1 and "*" .. tvb(next + 4, 2):uint() or "")
    next = next + 6
  end
  if band(flags, 1) ~= 0 then all[#all + 1] = "the original of " .. match_words(tvb, next) end
  return words .. " to " .. table.concat(all, ", ") .. ", " .. ttl .. " s"
end

local function instruction_words(tvb)
  local number, name = tvb(0, 1):uint(), NAMES[tvb(0, 1):uint()] or "unknown"
  if number == 1 then
    local flags, count, servers = tvb(20, 1):uint(), tvb(21, 1):uint(), {}
    for i = 0, count - 1 do
      local weight = count > 1 and "*" .. tvb(24 + i * 10, 2):uint() or ""
      servers[#servers + 1] = server_words(tvb, 22 + i * 10) .. weight
    end
    local more = (band(flags, 1) ~= 0 and ", source kept" or "")
      .. (band(flags, 2) ~= 0 and ", answers from any port" or "")
      .. (band(flags, 16) ~= 0 and ", resumable" or "")
      .. (band(flags, 32) ~= 0 and ", least loaded" or "")
      .. (band(flags, 64) ~= 0 and ", ejects" or "") .. MIDSTREAM[band(shr(flags, 2), 3)]
    return name .. " " .. match_words(tvb, 4) .. " to " .. table.concat(servers, ", ") .. more
  elseif number == 2 then
    return name .. " " .. match_words(tvb, 4)
  elseif number == 3 then
    local how = HOW[tvb(4, 1):uint()] or "?"
    return name .. " " .. server_words(tvb, 6) .. " to " .. server_words(tvb, 16) .. " (" .. how .. ")"
  elseif number == 4 then
    local values = {}
    for i, timeout in ipairs(TIMEOUTS) do values[i] = timeout .. " " .. tvb(i * 4, 4):uint() .. " ms" end
    return name .. " " .. table.concat(values, ", ")
  elseif number == 7 then
    return name .. " " .. entry_words(tvb, 4)
  elseif number == 8 then
    return name .. " " .. (name_words(tvb, 4))
  elseif number == 5 or number == 16 or number == 17 or number == 20 or number == 21 then
    return name .. (number == 5 and " " or " from ") .. tvb(4, 4):uint()
  elseif number == 34 then
    return name .. " every " .. tvb(6, 2):uint() .. " ms for " .. tvb(4, 2):uint() .. " s"
  elseif number == 35 then
    local lease = tvb(12, 2):uint()
    local note = tvb(14, 1):uint()
    return name .. " as monitor " .. tostring(tvb(4, 8):uint64()) .. (lease == 0 and " no longer" or " for " .. lease .. " ms")
      .. (note > 0 and ", note of " .. note .. " bytes" or "")
  elseif number == 32 then
    return name .. " for " .. tvb(4, 2):uint() .. " s"
  end
  return name
end

-- The parts of a datagram. Each returns words for the list of packets.

local function request(tvb, tree, stop)
  tree:add(f.dry_run, tvb(16, 1))
  tree:add(f.demands, tvb(16, 1))
  tree:add(f.count, tvb(17, 1))
  local demands = math.floor(tvb(16, 1):uint() / 2) % 2 == 1
  if demands then tree:add(f.generation, tvb(20, 4)) end
  local at, all = 24, {}
  while at + 4 <= stop do
    local length = math.min(4 + tvb(at + 2, 2):uint(), stop - at)
    -- What is cut short has no words.
    local told, words = pcall(instruction_words, tvb(at, length):tvb())
    words = told and words or "malformed"
    tree:add(f.instruction, tvb(at, length), words)
    all[#all + 1] = words
    at = at + length
  end
  local only_if = demands and "only if " .. tvb(20, 4):uint() .. ": " or ""
  return (tvb(16, 1):uint() % 2 == 1 and "dry run: " or "") .. only_if .. table.concat(all, "; ")
end

local function answer(tvb, tree, stop)
  local code = tvb(16, 2):uint()
  tree:add(f.code, tvb(16, 2))
  tree:add(f.index, tvb(18, 1))
  tree:add(f.dry_run, tvb(19, 1))
  tree:add(f.generation, tvb(20, 4))
  tree:add(f.detail, tvb(24, 4))
  if stop > 28 then
    tree:add(f.told, tvb(28, stop - 28))
  end
  local words = (CODES[code] or "code " .. code) .. ", generation " .. tvb(20, 4):uint()
  -- Answers to changes alone are a multiple of 8 bytes that all begin with an outcome and a zero.
  local effects = {}
  for at = 28, stop - 8, 8 do
    local outcome = OUTCOMES[tvb(at, 1):uint()]
    if (stop - 28) % 8 ~= 0 or not outcome or tvb(at + 1, 1):uint() ~= 0 then return words end
    effects[#effects + 1] = { at, outcome .. ", connections: " .. tvb(at + 4, 4):uint() }
  end
  local would = tvb(19, 1):uint() % 2 == 1 and "dry run: " or ""
  for i, effect in ipairs(effects) do
    tree:add(f.effect, tvb(effect[1], 8), effect[2])
    words = words .. "; " .. (i == 1 and would or "") .. effect[2]
  end
  return words
end

local function events(tvb, tree, stop)
  tree:add(f.lost, tvb(16, 4))
  tree:add(f.count, tvb(20, 2))
  local all = {}
  for at = 24, stop - 36, 36 do
    local kind, state = EVENTS[tvb(at, 1):uint()] or "?", STATES[tvb(at + 2, 1):uint()] or "?"
    local protocol = PROTOCOLS[tvb(at + 1, 1):uint()] or " ?"
    local words = kind .. protocol .. " (" .. endpoint(tvb, at + 4) .. ", " .. endpoint(tvb, at + 10) .. "), ("
      .. endpoint(tvb, at + 16) .. ", " .. endpoint(tvb, at + 22) .. "), " .. state
    if kind == "moved" then words = words .. ", from " .. endpoint(tvb, at + 28) end
    tree:add(f.event, tvb(at, 36), words)
    all[#all + 1] = words
  end
  return table.concat(all, "; ")
end

-- A report: a page of what was measured of servers.
local function report(tvb, tree, stop)
  tree:add(f.round, tvb(16, 4))
  tree:add(f.next, tvb(20, 4))
  tree:add(f.count, tvb(24, 2))
  tree:add(f.time, tvb(28, 8))
  local at, all = 36, { "report " .. tvb(16, 4):uint() }
  for _ = 1, tvb(24, 2):uint() do
    if at + 193 > stop then return table.concat(all, "; ") .. " malformed" end
    local answered, length = 0, 193
    for bucket = 0, 87 do
      if shr(tvb(at + 182 + math.floor(bucket / 8), 1):uint(), bucket % 8) % 2 == 1 then
        if at + length + 4 > stop then return table.concat(all, "; ") .. " malformed" end
        answered, length = answered + tvb(at + length, 4):uint(), length + 4
      end
    end
    local words = server_words(tvb, at + 4) .. "*" .. tvb(at + 6, 2):uint() .. ": connections " .. tvb(at + 22, 4):uint()
      .. ", started " .. tvb(at + 26, 4):uint() .. ", answered " .. answered .. ", waiting " .. tvb(at + 142, 4):uint()
    tree:add(f.measured, tvb(at, length), words)
    all[#all + 1], at = words, at + length
  end
  return table.concat(all, "; ")
end

local function handshake(tvb, tree, kind)
  local at = kind == 3 and 16 or 4
  tree:add(f.key, tvb(at, 2))
  if kind == 3 then
    tree:add(f.number, tvb(20, 4))
    tree:add(f.mine, tvb(24, 16))
  else
    tree:add(f.mine, tvb(8, 16))
  end
  if kind == 2 then
    tree:add(f.theirs, tvb(24, 16))
    tree:add(f.number, tvb(40, 4))
    local secret = keys()[tvb(4, 2):uint()]
    if secret then
      local seed = "byway control 1 session" .. raw(tvb, 4, 2) .. raw(tvb, 40, 4) .. raw(tvb, 8, 16) .. raw(tvb, 24, 16)
      sessions[raw(tvb, 24, 8)] = hmac(secret, seed)
    end
  elseif kind == 7 then
    tree:add(f.code, tvb(24, 2))
    tree:add(f.detail, tvb(28, 4))
    return "key " .. tvb(at, 2):uint() .. ": " .. (CODES[tvb(24, 2):uint()] or "?")
  end
  return "key " .. tvb(at, 2):uint()
end

function byway.dissector(tvb, pinfo, root)
  local length = tvb:len()
  if length < 32 or tvb(0, 2):uint() ~= 0x4257 then return 0 end
  local version, kind = tvb(2, 1):uint(), tvb(3, 1):uint()
  local outer = kind == 1 or kind == 2 or kind == 7
  if KINDS[kind] == nil or (version ~= 1 and not outer) then return 0 end
  if (outer or kind == 3) and length ~= 64 or kind == 4 and length < 40 or kind == 5 and length < 44 or
    kind == 6 and length < 40 or kind == 8 and length < 52 then return 0 end
  pinfo.cols.protocol = "BYWAY"
  local tree = root:add(byway, tvb())
  tree:add(f.version, tvb(2, 1))
  tree:add(f.kind, tvb(3, 1))
  local stop, words, secret = length - 16, "", nil
  if outer then
    words, secret = handshake(tvb, tree, kind), keys()[tvb(4, 2):uint()]
  else
    tree:add(f.sequence, tvb(4, 4))
    tree:add(f.session, tvb(8, 8))
    secret = sessions[raw(tvb, 8, 8)]
    local read = { [3] = handshake, [4] = request, [5] = answer, [6] = events, [8] = report }
    words = read[kind](tvb, tree, kind == 3 and kind or stop)
    if kind ~= 3 then words = tvb(4, 4):uint() .. ": " .. words end
  end
  tree:add(f.tag, tvb(stop, 16))
  local status = "unknown"
  if secret then
    status = hmac(secret, raw(tvb, 0, stop)):sub(1, 16) == raw(tvb, stop, 16) and "right" or "wrong"
  end
  tree:add(f.status, tvb(stop, 16), status)
  if status == "wrong" then
    words = words .. " [wrong tag]"
    tree:add_expert_info(PI_SECURITY, PI_WARN, "The tag is wrong")
  end
  pinfo.cols.info = KINDS[kind] .. " " .. words
  return length
end

local registered = nil
local function register()
  local ports = DissectorTable.get("udp.port")
  if registered then ports:remove(registered, byway) end
  registered = byway.prefs.port
  ports:add(registered, byway)
end
byway.prefs_changed = register
register()
