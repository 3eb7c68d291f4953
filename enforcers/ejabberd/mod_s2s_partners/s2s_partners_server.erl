%% Holds the set, applies what is new in the file, and sees to it that every stream obeys.
%%
%% Streams judge for themselves, from ETS, and never wait for this process. After every change it asks each
%% of them to look at itself, and the answer to the agent waits for those that must change or go:
%% acknowledged means in force.
-module(s2s_partners_server).

-behaviour(gen_server).

-export([start_link/1, apply_file/1, status/1, judge/1, settings/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export([recheck_in/3, recheck_out/3]).

-define(CURRENT, s2s_partners_current).
-define(VERSION, <<"1.0.0">>).
-define(FORMAT, 1).
-define(MOST_SESSIONS, 1000).
%% How long a stream that must change or go may take to do so before it is killed, in milliseconds.
-define(PATIENCE, 2000).

%% ------------------------------------------------------------------ for streams and commands

start_link(Path) -> gen_server:start_link({local, ?MODULE}, ?MODULE, Path, []).

%% Reads what is new in the file; returns the answer's JSON text.
-spec apply_file(integer()) -> binary().
apply_file(Heard) -> gen_server:call(?MODULE, {apply, Heard}, infinity).

%% Returns the answer's JSON text.
-spec status(integer()) -> binary().
status(Heard) -> gen_server:call(?MODULE, {status, Heard}, infinity).

%% The partner under whose terms a domain is allowed now. Whatever goes wrong here is a refusal.
-spec judge(binary()) -> {ok, s2s_partners_set:partner()} | {refused, binary()}.
judge(Name) ->
    try ets:lookup(?CURRENT, current) of
        [{current, _, stale}] -> {refused, <<"The list of partners is out of date">>};
        [{current, Set, _}] -> s2s_partners_set:judge(Name, erlang:system_time(second), Set)
    catch
        error:badarg -> {refused, <<"No list of partners is in force">>}
    end.

%% The settings in force, or `none`.
-spec settings() -> map() | none.
settings() ->
    try ets:lookup(?CURRENT, current) of
        [{current, #{settings := Settings}, _}] -> Settings;
        _ -> none
    catch
        error:badarg -> none
    end.

%% ------------------------------------------------------------------ the process

init(Path) ->
    ets:new(?CURRENT, [named_table, protected, {read_concurrency, true}]),
    State = #{path => Path, place => s2s_partners_file:new(), set => s2s_partners_set:new(), error => undefined,
              started_at => now_(), applied_at => 0, closed => 0, heard => undefined, stale => false,
              expiry => infinity},
    {_, Loaded} = read(State),
    timer:send_interval(1000, tick),
    {ok, Loaded}.

handle_call({apply, Heard}, _, State) ->
    {Closed, Applied} = read(heard(Heard, State)),
    {reply, answer(Closed, Applied), Applied};
handle_call({status, Heard}, _, State) ->
    Looked = look_at_the_clock(heard(Heard, State)),
    {reply, answer(0, Looked), Looked}.

handle_cast(_, State) -> {noreply, State}.

handle_info(tick, State) -> {noreply, look_at_the_clock(State)};
handle_info(_, State) -> {noreply, State}.

now_() -> erlang:system_time(second).

%% A moment in the future counts as now: kept as it is, it would put the lease off.
heard(At, #{heard := Before} = State) when At > 0 ->
    Latest = case Before of undefined -> At; _ -> max(At, Before) end,
    State#{heard := min(Latest, now_())};
heard(_, State) -> State.

%% ------------------------------------------------------------------ applying

read(#{path := Path, place := Place, set := Set} = State) ->
    {Result, NewPlace, NewSet} = s2s_partners_file:catch_up(Path, Place, Set),
    Read = State#{place := NewPlace, set := NewSet},
    {Closed, Enforced} = put_in_force(Read),
    is_same_set(Set, NewSet) orelse s2s_partners_set:delete(Set),
    case Result of
        ok ->
            #{generation := Generation, count := Count} = NewSet,
            logger:info("Partners: generation ~b is in force, ~b partners, ~b streams closed", [Generation, Count, Closed]),
            {Closed, Enforced#{error := undefined, applied_at := now_()}};
        {error, Why} ->
            logger:error("Partners: keeping generation ~b: ~ts", [maps:get(generation, NewSet), Why]),
            {Closed, Enforced#{error := Why}}
    end.

is_same_set(#{names := A}, #{names := B}) -> A =:= B.

put_in_force(#{set := Set} = State) ->
    Now = now_(),
    Stale = is_stale(Now, State),
    ets:insert(?CURRENT, {current, Set, case Stale of true -> stale; false -> fresh end}),
    use_settings(State),
    Closed = enforce(),
    {Closed, (maps:update_with(closed, fun(Total) -> Total + Closed end, State))#{
               stale := Stale, expiry := s2s_partners_set:next_expiry(Now, Set)}}.

look_at_the_clock(#{stale := Stale, expiry := Expiry} = State) ->
    Now = now_(),
    case is_stale(Now, State) of
        Stale when Expiry > Now -> State;
        _ ->
            {_, Enforced} = put_in_force(State),
            Enforced
    end.

%% docs/enforcement.md, section 3.
is_stale(Now, #{set := #{settings := #{<<"staleness_policy">> := <<"DENY_ALL">>, <<"staleness_lease">> := Lease}}} = State) ->
    Heard = case State of
                #{heard := undefined, path := Path} -> modified_at(Path);
                #{heard := At} -> At
            end,
    Now > min(Heard, Now) + Lease;
is_stale(_, _) -> false.

modified_at(Path) ->
    case filelib:last_modified(Path) of
        0 -> 0;
        Local -> [Utc | _] = calendar:local_time_to_universal_time_dst(Local),
                 calendar:datetime_to_gregorian_seconds(Utc) - 62167219200
    end.

%% What ejabberd takes from its options is put there.
use_settings(#{path := Path, set := #{settings := Settings}}) ->
    #{<<"stream_inactivity_timeout">> := Inactivity} = Settings,
    ejabberd_config:set_option(s2s_timeout, Inactivity * 1000),
    [ejabberd_config:set_option({s2s_timeout, Host}, Inactivity * 1000) || Host <- ejabberd_config:get_option(hosts)],
    use_passphrase(passphrase(Path, Settings));
use_settings(_) -> ok.

%% Beside the key in force the configured one is kept, over a crash of this process too: a key that is
%% not ours is the configuration's, read at the start or by a reload.
use_passphrase({ok, Passphrase}) ->
    Configured = case {ejabberd_config:get_option(shared_key), persistent_term:get(?MODULE, none)} of
                     {Ours, {Ours, Before}} -> Before;
                     {Other, _} -> Other
                 end,
    persistent_term:put(?MODULE, {Passphrase, Configured}),
    ejabberd_config:set_option(shared_key, Passphrase);
use_passphrase(none) ->
    case {ejabberd_config:get_option(shared_key), persistent_term:get(?MODULE, none)} of
        {Ours, {Ours, Configured}} -> ejabberd_config:set_option(shared_key, Configured);
        _ -> ok
    end;
%% What cannot be read is said in the answer, and changes nothing.
use_passphrase({error, _}) -> ok.

passphrase(Path, #{<<"dialback_passphrase">> := Name}) ->
    case file:read_file(filename:join(filename:dirname(Path), Name)) of
        {ok, Content} when Content =/= <<>> -> {ok, hd(binary:split(Content, <<"\n">>))};
        _ -> {error, Name}
    end;
passphrase(_, _) -> none.

%% ------------------------------------------------------------------ looking at every stream

%% Asks every stream to look at itself, and waits for the authenticated ones that are too many or break
%% their terms. Who of them does not answer in time is killed: it may be stuck in a send, and it must not
%% deliver anything after the acknowledgement. For the others nothing changes, or they are not
%% authenticated yet: those may be connecting, with stanzas in their queue, and pass a gate when they are.
enforce() ->
    Surplus = s2s_partners_streams:surplus(),
    Violating = s2s_partners_streams:violating(),
    Asked = lists:append(
              [[ask(Pid, UpdateState, Function, lists:member(Pid, Surplus), is_map_key(Pid, Violating)) || Pid <- children(Supervisor)]
               || {Supervisor, UpdateState, Function} <- [{ejabberd_s2s_in_sup, fun ejabberd_s2s_in:update_state/2, recheck_in},
                                                          {ejabberd_s2s_out_sup, fun ejabberd_s2s_out:update_state/2, recheck_out}]]),
    Deadline = erlang:monotonic_time(millisecond) + ?PATIENCE,
    Closed = [Pid || {Pid, Monitor} <- Asked, is_closed(Pid, Monitor, Deadline)],
    s2s_partners_streams:forget(Closed, Violating),
    length(Closed).

children(Supervisor) ->
    [Pid || {_, Pid, _, _} <- supervisor:which_children(Supervisor), is_pid(Pid)].

ask(Pid, UpdateState, Function, false, false) ->
    UpdateState(Pid, {?MODULE, Function, [false, nobody]}),
    {Pid, unwatched};
ask(Pid, UpdateState, Function, IsSurplus, _IsViolating) ->
    Monitor = monitor(process, Pid),
    UpdateState(Pid, {?MODULE, Function, [IsSurplus, {self(), Monitor}]}),
    {Pid, Monitor}.

is_closed(_, unwatched, _) -> false;
is_closed(Pid, Monitor, Deadline) ->
    receive
        {looked, Monitor, Closed} ->
            demonitor(Monitor, [flush]),
            Closed;
        {'DOWN', Monitor, process, Pid, _} -> false
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
            demonitor(Monitor, [flush]),
            exit(Pid, kill),
            true
    end.

recheck_in(State, IsSurplus, Asker) ->
    looked(State, mod_s2s_partners:recheck_in(State, IsSurplus), Asker).

recheck_out(State, IsSurplus, Asker) ->
    looked(State, mod_s2s_partners:recheck_out(State, IsSurplus), Asker).

looked(_, After, nobody) -> After;
looked(Before, After, {Asker, Monitor}) ->
    Asker ! {looked, Monitor, not is_over(Before) andalso is_over(After)},
    After.

is_over(#{stream_state := disconnected}) -> true;
is_over(#{}) -> false.

%% ------------------------------------------------------------------ answering

answer(Closed, #{set := Set, error := Error} = State) ->
    #{generation := Generation, count := Count} = Set,
    Answer = #{partnerd => ?FORMAT, generation => Generation, digest => s2s_partners_set:digest(Set), partners => Count,
               server => <<"ejabberd ", (server_version())/binary>>, module => ?VERSION,
               started_at => maps:get(started_at, State), applied_at => maps:get(applied_at, State),
               closed => Closed, closed_total => maps:get(closed, State), sessions => s2s_partners_streams:sessions(?MOST_SESSIONS),
               unenforced => unenforced(State), warnings => warnings(), stale => maps:get(stale, State)},
    jiffy:encode(case Error of
                     undefined -> Answer#{result => <<"ACK">>};
                     _ -> Answer#{result => <<"NACK">>, error => Error}
                 end).

server_version() -> iolist_to_binary(ejabberd_option:version()).

%% What ejabberd cannot do, of what the set asks for.
unenforced(#{path := Path, set := #{settings := Settings} = Set}) ->
    of_partners(Set) ++ of_settings(Path, Settings);
unenforced(_) -> [].

of_partners(Set) ->
    NoTls = <<"ejabberd offers and takes TLS to and from everybody; an encrypted stream with such a partner is refused">>,
    NoSasl = <<"ejabberd takes EXTERNAL when it is offered; such an outbound stream is refused">>,
    Questions =
        [{no_tls, <<"tls_negotiation">>, NoTls}, {no_sasl, <<"sasl_negotiation">>, NoSasl},
         {keep_alive, <<"keep_alive_enabled">>, <<"ejabberd sends no keep-alives between servers">>},
         {proxy, <<"proxy_fqdn">>, <<"ejabberd connects to what DNS says">>}]
        ++ [{dialback, <<"dialback_enabled">>, <<"mod_s2s_dialback is not loaded on every host">>} || not everywhere(mod_s2s_dialback)]
        ++ [{unverified, <<"partner_type">>, <<"mod_roster is not loaded on every host; nobody is reached">>} || not everywhere(mod_roster)],
    [entry(Property, Reason, Count, Examples)
     || {Mark, Property, Reason} <- Questions, {Count, Examples} <- [s2s_partners_set:census(Mark, Set)], Count > 0].

of_settings(Path, #{<<"message_body_logging_enabled">> := Logs} = Settings) ->
    [entry(<<"federation_settings.keep_alive_interval">>, <<"ejabberd sends no keep-alives between servers">>, 0, []),
     entry(<<"federation_settings.subscription_refresh_interval">>, <<"ejabberd does not refresh subscriptions">>, 0, [])]
    ++ [entry(<<"federation_settings.message_body_logging_enabled">>, <<"ejabberd does not log message bodies">>, 0, []) || Logs]
    ++ [entry(<<"federation_settings.dialback_passphrase">>, <<"the passphrase file ", Name/binary, " cannot be read">>, 0, [])
        || {error, Name} <- [passphrase(Path, Settings)]].

entry(Property, Reason, Count, Examples) ->
    #{property => Property, reason => Reason, partners => Count, examples => Examples}.

everywhere(Module) ->
    lists:all(fun(Host) -> gen_mod:is_loaded(Host, Module) end, ejabberd_config:get_option(hosts)).

%% The door that the configuration must keep shut for when this module is not there.
warnings() ->
    [<<"s2s_access is not \"none\" in the configuration: without this module ejabberd federates with everybody">>
     || not mod_s2s_partners:is_closed_without_us()].
