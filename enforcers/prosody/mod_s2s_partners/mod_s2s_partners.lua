-- mod_s2s_partners: Prosody federates with the partners of partnerd, under their terms.
--
-- What it reads, answers and promises stands in docs/enforcement.md. This file puts the parts together:
-- the follower reads the file, the gate and its companions ask `judge`, commands come over the admin
-- socket. Prosody 0.12 and later, Lua 5.4.
--
-- Fail closed: the configuration has modules_disabled = { "s2s" }, and only this module, once it is
-- loaded, loads mod_s2s. Without it there is no s2s port; without data everybody is refused.

module:set_global()

local VERSION = "1.0.0"
local XMLNS = "urn:partnerd:enforcer:1"
local FORMAT = 1

local array = require "util.array"
local json = require "util.json"
local modulemanager = require "core.modulemanager"
local monotonic = require "util.time".monotonic
local st = require "util.stanza"
local timer = require "util.timer"

local follower = module:require "follower".new(module:get_option_path("s2s_partners_file", "partners.jsonl", "data"))
local streams = module:require "streams"
local gate = module:require "gate"
local upkeep = module:require "upkeep"
local contacts = module:require "contacts"
local proxy = module:require "proxy"
local passphrase = module:require "passphrase"
local honesty = module:require "honesty"

-- How long a base is read before the server gets its turn, and how long that turn is at least.
local SLICE, TURN = 0.004, 0.002
local MOST_SESSIONS = 1000

local started_at = os.time()
local applied_at, last_error = 0, nil
local heard_at, was_stale = nil, false
-- For how long the application under way kept the server at the longest, in seconds of processor
-- time: what a busy machine adds is not ours.
local longest_stall = 0

---------------------------------------------------------------- judging

local function settings() return follower.set.settings end

-- Section 3: the lease runs from when the agent last heard from the service.
local function is_stale(now)
	local current = settings()
	if not current or current.staleness_policy ~= "DENY_ALL" then return false end
	return now > math.min(heard_at or follower:modified_at(), now) + current.staleness_lease
end

local function judge(name)
	local now = os.time()
	if was_stale and is_stale(now) then return nil, "The list of partners is out of date" end
	return follower.set:judge(name, now)
end

-- A moment in the future counts as now: kept as it is, it would put the lease off.
local function note_heard(text)
	local heard = tonumber(text)
	if not heard or heard <= 0 then return end
	heard_at = math.min(math.max(heard_at or 0, heard), os.time())
end

---------------------------------------------------------------- applying

-- What must follow a change of the set before it may be called in force.
local function put_in_force()
	local now = os.time()
	was_stale = is_stale(now)
	if settings() then passphrase.use(follower:folder(), settings().dialback_passphrase) end
	if follower.set.next_expiry <= now then follower.set:find_next_expiry(now) end
	return streams.enforce()
end

local function finish(ok, err)
	if ok and follower:unread() > 0 then ok, err = nil, "the last delta is not finished" end
	last_error = err
	local began = os.clock()
	local closed = put_in_force()
	longest_stall = math.max(longest_stall, os.clock() - began)
	if ok then
		applied_at = os.time()
		module:log("info", "Generation %d is in force: %d partners, %d streams closed", follower.set.generation, follower.set.count, closed)
	else
		module:log("error", "Keeping generation %d: %s", follower.set.generation, err)
	end
	return closed
end

-- The same when an error is thrown: who waits must hear of it, and the next application must begin.
local function finish_surely(ok, err)
	local finished, closed = pcall(finish, ok, err)
	if finished then return closed end
	last_error = "the module failed: " .. tostring(closed)
	module:log("error", "%s", last_error)
	return 0
end

local function no_pause() end

-- At the start there is nothing to serve yet, so the whole file is read at once.
local function apply_now()
	local ok, err = follower:catch_up(no_pause)
	return finish(ok, err)
end

-- Who waits for the reading under way; nil when there is none. Those who come meanwhile may have
-- seen a newer file, so they are answered by one more reading.
local waiting, late

local function read_in_slices(done)
	local slice_ends
	local reading = coroutine.create(function()
		return follower:catch_up(function()
			if monotonic() >= slice_ends then coroutine.yield() end
		end)
	end)
	longest_stall = 0
	local function step()
		local began = os.clock()
		slice_ends = monotonic() + SLICE
		local alive, ok, err = coroutine.resume(reading)
		longest_stall = math.max(longest_stall, os.clock() - began)
		if not alive then
			ok, err = nil, "the module failed: " .. tostring(ok)
		elseif coroutine.status(reading) ~= "dead" then
			timer.add_task(TURN, step)
			return
		end
		done(ok, err)
	end
	step()
end

local function apply(answer)
	if waiting then
		late[#late + 1] = answer
		return
	end
	waiting, late = { answer }, {}
	read_in_slices(function(ok, err)
		local closed = finish_surely(ok, err)
		local answered, next_round = waiting, late
		waiting, late = nil, nil
		for _, reply in ipairs(answered) do reply(closed) end
		for _, reply in ipairs(next_round) do apply(reply) end
	end)
end

---------------------------------------------------------------- answering

local function report(closed)
	local set = follower.set
	local unenforced, warnings = honesty.report(set, passphrase.problem)
	return {
		partnerd = FORMAT,
		result = last_error and "NACK" or "ACK",
		error = last_error,
		generation = set.generation,
		digest = set:digest_hex(),
		partners = set.count,
		server = "Prosody " .. prosody.version,
		module = VERSION,
		started_at = started_at,
		applied_at = applied_at,
		closed = closed,
		closed_total = streams.closed,
		stall_ms = longest_stall * 1000,
		sessions = array(streams.by_partner(MOST_SESSIONS)),
		unenforced = array(unenforced),
		warnings = array(warnings),
		stale = was_stale,
	}
end

local function answer_to(session)
	return function(closed)
		if not session.conn then return end -- gone while the base was read
		session.send(st.stanza("answer", { xmlns = XMLNS }):text(json.encode(report(closed))))
	end
end

local function look_at_the_clock()
	local now = os.time()
	local stale = is_stale(now)
	local expired = follower.set.next_expiry <= now
	if expired or stale ~= was_stale then put_in_force() end
end

module:hook("admin/" .. XMLNS .. ":apply", function(event)
	note_heard(event.stanza.attr.heard)
	apply(answer_to(event.origin))
	return true
end)

module:hook("admin/" .. XMLNS .. ":status", function(event)
	note_heard(event.stanza.attr.heard)
	look_at_the_clock()
	answer_to(event.origin)(0)
	return true
end)

module:hook("config-reloaded", function()
	if settings() then passphrase.use(follower:folder(), settings().dialback_passphrase, true) end
	apply(function() end)
end)

module:add_timer(1, function()
	look_at_the_clock()
	upkeep.tick()
	return 1
end)

---------------------------------------------------------------- hosts

local attached = {}

local function attach(host)
	if attached[host] or not prosody.hosts[host] then return end
	attached[host] = true
	local m = module:context(host)
	gate.attach(m)
	upkeep.attach(m)
	proxy.attach(m, streams)
	if prosody.hosts[host].type == "local" then contacts.attach(m, streams) end
end

-- A host whose own section disables s2s stays without it.
local function load_s2s(host)
	local configmanager = require "core.configmanager"
	local disabled = configmanager.rawget(host, "modules_disabled") or {}
	for _, name in ipairs(disabled) do
		if name == "s2s" then return end
	end
	if prosody.hosts[host].modules.s2s then return end
	local loaded, err = modulemanager.load(host, "s2s")
	if not loaded then module:log("error", "mod_s2s cannot be loaded on %s: %s", host, err) end
end

local function unload_s2s()
	for host, session in pairs(prosody.hosts) do
		if session.modules and session.modules.s2s then modulemanager.unload(host, "s2s") end
	end
end

module:hook("host-activated", attach, 1000)
module:hook("host-activated", load_s2s, -1000)
module:hook("host-deactivated", function(host) attached[host] = nil end)

-- The module manager asks for this on every host after the first.
function module.add_host() end

---------------------------------------------------------------- coming and going

-- Kept over a reload of this module, so that no stream is lost for it.
function module.save()
	return { started_at = started_at, closed = streams.closed, heard_at = heard_at }
end

-- Before anything is judged: without the saved `heard_at` the file's age would stand for it.
local function restore(saved)
	started_at, heard_at = saved.started_at, saved.heard_at
	streams.closed = saved.closed
end

function module.load()
	if module.saved_state then restore(module.saved_state) end
	local rules = { judge = judge, settings = settings }
	streams.obey(rules)
	gate.open(streams, settings)
	upkeep.start(streams, settings)
	proxy.install(judge)
	for host in pairs(prosody.hosts) do attach(host) end
	apply_now()
	for host in pairs(prosody.hosts) do load_s2s(host) end
end

-- Without this module nobody may federate: not after an unload, nor after a reload that failed.
function module.unload()
	proxy.remove()
	if not module.reloading then return unload_s2s() end
	timer.add_task(1, function()
		if not modulemanager.get_module("*", "s2s_partners") then unload_s2s() end
	end)
end
