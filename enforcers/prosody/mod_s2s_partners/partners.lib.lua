-- The set of partners: the digest, lookups, and how a delta changes it.
--
-- Pure data: knows neither files nor streams. Every function that can refuse returns nil and a
-- sentence that says what is wrong.

local hex = require "util.hex"
local sha256 = require "util.hashes".sha256
local sxor = require "util.strbitop".sxor
local cache = require "util.cache"
local index = module:require "index"
local lines = module:require "lines"

local NO_DIGEST = ("\0"):rep(32)
-- How many partners are kept decoded: those with traffic, not those that are listed.
local MOST_DECODED = 2048

local set_methods = {}
local set_mt = { __index = set_methods }

-- A partner is kept as its line and decoded when somebody asks: 50,000 decoded ones would keep the
-- garbage collector busy, and few of them ever have a stream.
local function new_set()
	return setmetatable({
		generation = -1,
		count = 0,
		by_domain = index.new(), -- primary domain -> line
		by_name = index.new(), -- every name -> line
		marked = { dialback = index.new(), without_tls = index.new() }, -- as by_domain, for the census
		marks = { dialback = 0, without_tls = 0 }, -- how many are there
		expiring = {}, -- key of the primary domain -> when
		decoded = cache.new(MOST_DECODED), -- line -> partner
		digest = NO_DIGEST,
		next_expiry = math.huge,
	}, set_mt)
end

function set_methods:decode(line)
	local partner = self.decoded:get(line)
	if not partner then
		partner = lines.decode_partner(line)
		partner.has_name = {}
		for _, name in ipairs(partner.names) do partner.has_name[name] = true end
		self.decoded:set(line, partner)
	end
	return partner
end

-- The partner that has this primary domain.
function set_methods:partner(domain)
	local line = self.by_domain:get(domain)
	local partner = line and self:decode(line)
	return partner and partner.domain == domain and partner or nil
end

-- The partner that has this name.
function set_methods:owner(name)
	local line = self.by_name:get(name)
	local partner = line and self:decode(line)
	return partner and partner.has_name[name] and partner or nil
end

function set_methods:digest_hex()
	return self.settings and hex.to(self.digest) or ""
end

function set_methods:use_settings(settings, hash)
	self.settings, self.settings_hash = settings, hash
	self.unlisted = { __index = lines.methods_of(settings.unlisted_methods) }
	self.unlisted.__index.partner_type = "PUBLIC_UNVERIFIED"
	self.unlisted.__index.keep_alive = true
	self.unlisted.__index.unlisted = true
end

-- What partners ask for that a server may be unable to give is counted as they come and go, so that
-- no answer walks over all of them.
function set_methods:mark(partner, line, number)
	local asks_for = { dialback = partner.dialback_tls or partner.dialback_tcp, without_tls = partner.dialback_tcp }
	for mark, asked in pairs(asks_for) do
		if asked then
			self.marked[mark]:put(partner.domain, line)
			self.marks[mark] = self.marks[mark] + number
		end
	end
end

function set_methods:insert(partner)
	self:mark(partner, partner.line, 1)
	self.by_domain:put(partner.domain, partner.line)
	for _, name in ipairs(partner.names) do self.by_name:put(name, partner.line) end
	self.count = self.count + 1
	if partner.expire_time then
		self.expiring[index.key_of(partner.domain)] = partner.expire_time
		self.next_expiry = math.min(self.next_expiry, partner.expire_time)
	end
end

function set_methods:drop(partner)
	self:mark(partner, nil, -1)
	self.by_domain:put(partner.domain, nil)
	for _, name in ipairs(partner.names) do self.by_name:put(name, nil) end
	self.expiring[index.key_of(partner.domain)] = nil
	self.count = self.count - 1
end

-- Adds one line of a base that is being built.
function set_methods:add_line(line)
	local parsed, err = lines.parse_line(line)
	if not parsed then return nil, err end
	if parsed.kind == "settings" and not self.settings then
		self:use_settings(parsed.value, parsed.hash)
	elseif parsed.kind == "partner" and self.settings then
		local partner = parsed.value
		if self.by_domain:get(partner.domain) then return nil, ("%s is there twice"):format(partner.domain) end
		for _, name in ipairs(partner.names) do
			if self.by_name:get(name) then return nil, ("%s of %s belongs to another partner"):format(name, partner.domain) end
		end
		self:insert(partner)
	else
		return nil, "settings come first and once, then partners"
	end
	self.digest = sxor(self.digest, parsed.hash)
	return true
end

-- What a delta's lines would change, or why they cannot.
local function changes_of(set, delta_lines)
	local changes = { dropped = {}, inserted = {}, digest = set.digest }
	local touched = {}
	local function touch(domain)
		if touched[domain] then return nil, ("%s is in the delta twice"):format(domain) end
		touched[domain] = true
		local old = set:partner(domain)
		if old then
			table.insert(changes.dropped, old)
			changes.digest = sxor(changes.digest, sha256(old.line))
		end
		return true, old
	end
	for number, line in ipairs(delta_lines) do
		local parsed, err = lines.parse_line(line)
		if not parsed then return nil, ("line %d of the delta %s"):format(number, err) end
		if parsed.kind == "settings" then
			if changes.settings then return nil, "the settings are in the delta twice" end
			changes.settings = parsed
			changes.digest = sxor(sxor(changes.digest, set.settings_hash), parsed.hash)
		elseif parsed.kind == "partner" then
			local ok, problem = touch(parsed.value.domain)
			if not ok then return nil, problem end
			table.insert(changes.inserted, parsed.value)
			changes.digest = sxor(changes.digest, parsed.hash)
		else
			local ok, old = touch(parsed.value)
			if not ok then return nil, old end
			if not old then return nil, ("%s cannot be removed, it is not there"):format(parsed.value) end
		end
	end
	return changes, touched
end

-- Names are judged as the delta leaves them, so that they may move from one partner to another.
local function names_are_free(set, changes, touched)
	local taken = {}
	for _, partner in ipairs(changes.inserted) do
		for _, name in ipairs(partner.names) do
			local owner = set:owner(name)
			if taken[name] or (owner and not touched[owner.domain]) then
				return nil, ("%s belongs to %s already"):format(name, taken[name] or owner.domain)
			end
			taken[name] = partner.domain
		end
	end
	return true
end

-- Puts a delta in force, whole or not at all.
function set_methods:apply(delta, delta_lines)
	if delta.base ~= self:digest_hex() then
		return nil, ("the delta to generation %d is for another base"):format(delta.generation)
	end
	if delta.generation < self.generation then
		return nil, ("generation %d comes after %d"):format(delta.generation, self.generation)
	end
	local changes, touched = changes_of(self, delta_lines)
	if not changes then return nil, touched end
	local free, err = names_are_free(self, changes, touched)
	if not free then return nil, err end
	if hex.to(changes.digest) ~= delta.digest then
		return nil, ("the delta to generation %d does not lead to its digest"):format(delta.generation)
	end
	for _, partner in ipairs(changes.dropped) do self:drop(partner) end
	for _, partner in ipairs(changes.inserted) do self:insert(partner) end
	if changes.settings then self:use_settings(changes.settings.value, changes.settings.hash) end
	self.digest, self.generation = changes.digest, delta.generation
	return true
end

-- The partner under whose terms `name` is allowed at `now`, or nil and why it is refused.
function set_methods:judge(name, now)
	local settings = self.settings
	if not settings then return nil, "No list of partners is in force" end
	if settings.mode == "DENY_ALL" then return nil, "Federation is switched off" end
	local partner = self:owner(name)
	if not partner then
		if settings.mode == "ALLOW_ALL_EXCEPT_SUSPENDED" then
			return setmetatable({ domain = name, names = { name } }, self.unlisted)
		end
		return nil, "Federation with this domain is not allowed"
	elseif partner.suspended then
		return nil, "Federation with this domain is suspended"
	elseif partner.expire_time and now >= partner.expire_time then
		return nil, "Federation with this domain has expired"
	end
	return partner
end

-- The next moment after `now` at which a partner expires.
function set_methods:find_next_expiry(now)
	self.next_expiry = math.huge
	for _, at in pairs(self.expiring) do
		if at > now and at < self.next_expiry then self.next_expiry = at end
	end
end

-- How many partners have this mark, and the domains of up to ten of them.
function set_methods:census(mark)
	local count, examples = self.marks[mark], {}
	if count == 0 then return count, examples end
	for line in self.marked[mark]:lines() do
		examples[#examples + 1] = self:decode(line).domain
		if #examples == 10 then break end
	end
	table.sort(examples)
	return count, examples
end

return { new_set = new_set }
