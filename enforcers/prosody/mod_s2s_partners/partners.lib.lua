-- The set of partners: what a line may say, the digest, lookups, and how a delta changes it.
--
-- Pure data. Knows the format of docs/enforcement.md section 1, and neither files nor streams.
-- Every function that can refuse returns nil and a sentence that says what is wrong.

local json = require "util.json"
local hex = require "util.hex"
local sha256 = require "util.hashes".sha256
local sxor = require "util.strbitop".sxor
local nameprep = require "util.encodings".stringprep.nameprep
local cache = require "util.cache"
local index = module:require "index"

local FORMAT = 1
local MAX_DELTA_LINES = 256
local NO_DIGEST = ("\0"):rep(32)
-- How many partners are kept decoded: those with traffic, not those that are listed.
local MOST_DECODED = 2048

---------------------------------------------------------------- what a value may be

local function is_boolean(value) return type(value) == "boolean" end
local function is_true(value) return value == true end
local function is_text(value) return type(value) == "string" and value ~= "" end

local function is_integer_from(least)
	return function(value)
		return type(value) == "number" and value >= least and value % 1 == 0
	end
end

local function is_one_of(...)
	local allowed = {}
	for _, value in ipairs { ... } do allowed[value] = true end
	return function(value) return allowed[value] == true end
end

local function is_list_of(fits)
	return function(value)
		if type(value) ~= "table" or #value == 0 then return false end
		for _, item in ipairs(value) do
			if not fits(item) then return false end
		end
		return true
	end
end

-- A name must be in the form in which mod_s2s looks it up, or it would silently never match.
local function is_prepared_name(value)
	return is_text(value) and nameprep(value) == value
end

local function is_file_name(value)
	return is_text(value) and not value:find("/", 1, true) and value:sub(1, 1) ~= "."
end

local is_method = is_one_of("SASL_OVER_TLS", "DIALBACK_OVER_TLS", "DIALBACK_OVER_TCP")

local function required(fits) return { fits = fits, required = true } end
local function optional(fits) return { fits = fits } end

local HEADER = {
	partnerd = required(is_integer_from(1)),
	generation = required(is_integer_from(0)),
	digest = required(is_text),
	partners = required(is_integer_from(0)),
	bytes = required(is_integer_from(0)),
}

local DELTA = {
	base = required(is_text),
	generation = required(is_integer_from(0)),
	digest = required(is_text),
	lines = required(is_integer_from(0)),
}

local REMOVAL = { remove = required(is_text) }

local SETTINGS = {
	mode = required(is_one_of("ALLOW_LISTED", "DENY_ALL", "ALLOW_ALL_EXCEPT_SUSPENDED")),
	connection_limit = required(is_integer_from(0)),
	partner_connection_limit = required(is_integer_from(0)),
	keep_alive_interval = required(is_integer_from(1)),
	stream_establishment_timeout = required(is_integer_from(1)),
	stream_inactivity_timeout = required(is_integer_from(1)),
	subscription_refresh_interval = required(is_integer_from(1)),
	message_body_logging_enabled = required(is_boolean),
	unlisted_methods = required(is_list_of(is_method)),
	staleness_lease = required(is_integer_from(1)),
	staleness_policy = required(is_one_of("KEEP", "DENY_ALL")),
	dialback_passphrase = optional(is_file_name),
}

local PARTNER = {
	domain = required(is_prepared_name),
	names = required(is_list_of(is_prepared_name)),
	methods = required(is_list_of(is_method)),
	partner_type = required(is_one_of("PUBLIC_UNVERIFIED", "PUBLIC_VERIFIED", "FEDERATED")),
	keep_alive_enabled = required(is_boolean),
	connection_limit = optional(is_integer_from(1)),
	proxy_fqdn = optional(is_text),
	suspended = optional(is_true),
	expire_time = optional(is_integer_from(0)),
}

-- An unknown key is refused: a rule that is not understood is not enforced.
local function checked(object, shape)
	for key, rule in pairs(shape) do
		local value = object[key]
		if value == nil then
			if rule.required then return nil, ("%q is missing"):format(key) end
		elseif not rule.fits(value) then
			return nil, ("%q has a value that is not allowed"):format(key)
		end
	end
	for key in pairs(object) do
		if not shape[key] then return nil, ("%q is not known here"):format(tostring(key)) end
	end
	return object
end

---------------------------------------------------------------- lines

local function decode(line, shape)
	local object = line and json.decode(line)
	if type(object) ~= "table" then return nil, "is not a JSON object" end
	if shape then return checked(object, shape) end
	return object
end

local function methods_of(names)
	local set = {}
	for _, name in ipairs(names) do set[name] = true end
	return {
		sasl = set.SASL_OVER_TLS == true,
		dialback_tls = set.DIALBACK_OVER_TLS == true,
		dialback_tcp = set.DIALBACK_OVER_TCP == true,
	}
end

-- A partner as the streams ask about it.
local function partner_from(object, line)
	local partner = methods_of(object.methods)
	partner.domain = object.domain
	partner.names = object.names
	partner.partner_type = object.partner_type
	partner.keep_alive = object.keep_alive_enabled
	partner.connection_limit = object.connection_limit
	partner.proxy = object.proxy_fqdn
	partner.suspended = object.suspended
	partner.expire_time = object.expire_time
	partner.line = line
	return partner
end

-- One line of a base or a delta: {kind, value, hash}.
local function parse_line(line)
	local object, err = decode(line)
	if not object then return nil, err end
	if object.domain ~= nil then
		object, err = checked(object, PARTNER)
		if not object then return nil, err end
		return { kind = "partner", value = partner_from(object, line), hash = sha256(line) }
	elseif object.mode ~= nil then
		object, err = checked(object, SETTINGS)
		if not object then return nil, err end
		return { kind = "settings", value = object, hash = sha256(line) }
	elseif object.remove ~= nil then
		object, err = checked(object, REMOVAL)
		if not object then return nil, err end
		return { kind = "removal", value = object.remove }
	end
	return nil, "is neither settings nor a partner nor a removal"
end

local function parse_header(line)
	local header, err = decode(line, HEADER)
	if not header then return nil, "the header: " .. err end
	if header.partnerd ~= FORMAT then
		return nil, ("the file has format %d, this module reads format %d"):format(header.partnerd, FORMAT)
	end
	return header
end

local function parse_delta_header(line)
	local delta, err = decode(line, DELTA)
	if not delta then return nil, "a delta's header: " .. err end
	if delta.lines > MAX_DELTA_LINES then
		return nil, ("a delta has %d lines; more than %d need a new base"):format(delta.lines, MAX_DELTA_LINES)
	end
	return delta
end

---------------------------------------------------------------- the set

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
		expiring = {}, -- key of the primary domain -> when
		decoded = cache.new(MOST_DECODED), -- line -> partner
		digest = NO_DIGEST,
		next_expiry = math.huge,
	}, set_mt)
end

function set_methods:decode(line)
	local partner = self.decoded:get(line)
	if not partner then
		partner = partner_from(json.decode(line), line)
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
	self.unlisted = { __index = methods_of(settings.unlisted_methods) }
	self.unlisted.__index.partner_type = "PUBLIC_UNVERIFIED"
	self.unlisted.__index.keep_alive = true
	self.unlisted.__index.unlisted = true
end

function set_methods:insert(partner)
	self.by_domain:put(partner.domain, partner.line)
	for _, name in ipairs(partner.names) do self.by_name:put(name, partner.line) end
	self.count = self.count + 1
	if partner.expire_time then
		self.expiring[index.key_of(partner.domain)] = partner.expire_time
		self.next_expiry = math.min(self.next_expiry, partner.expire_time)
	end
end

function set_methods:drop(partner)
	self.by_domain:put(partner.domain, nil)
	for _, name in ipairs(partner.names) do self.by_name:put(name, nil) end
	self.expiring[index.key_of(partner.domain)] = nil
	self.count = self.count - 1
end

-- Adds one line of a base that is being built.
function set_methods:add_line(line)
	local parsed, err = parse_line(line)
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
local function changes_of(set, lines)
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
	for number, line in ipairs(lines) do
		local parsed, err = parse_line(line)
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
function set_methods:apply(delta, lines)
	if delta.base ~= self:digest_hex() then
		return nil, ("the delta to generation %d is for another base"):format(delta.generation)
	end
	if delta.generation < self.generation then
		return nil, ("generation %d comes after %d"):format(delta.generation, self.generation)
	end
	local changes, touched = changes_of(self, lines)
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

-- How many partners have `text` in their line, and the domains of up to ten of them.
function set_methods:census(text)
	local count, examples = 0, {}
	for line in self.by_domain:lines() do
		if line:find(text, 1, true) then
			count = count + 1
			if count <= 10 then examples[count] = self:decode(line).domain end
		end
	end
	table.sort(examples)
	return count, examples
end

return {
	new_set = new_set,
	parse_header = parse_header,
	parse_delta_header = parse_delta_header,
}
