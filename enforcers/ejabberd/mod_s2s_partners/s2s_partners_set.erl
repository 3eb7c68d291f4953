%% The set of partners: what a line may say, the digest, lookups, and how a delta changes it.
%%
%% Knows the format of docs/enforcement.md section 1, and neither files nor streams. Functions that can
%% refuse throw {refused, Sentence}. The partners live in ETS tables, so that streams look them up without
%% asking anybody; the rest of the set is a map. Nothing that is done for a change or for an answer walks
%% over all partners: what is counted is kept in `marks`, and when partners expire in `expiries`.
-module(s2s_partners_set).

-export([new/0, delete/1, header/1, delta_header/1, add_line/2, finish/2, renewed/2, apply_delta/3]).
-export([judge/3, digest/1, census/2, next_expiry/2]).

-define(FORMAT, 1).
-define(MOST_DELTA_LINES, 256).

-type set() :: #{generation := integer(), digest := binary(), count := non_neg_integer(),
                 names := ets:tid(), partners := ets:tid(), marks := ets:tid(), expiries := ets:tid(),
                 marked := #{mark() => non_neg_integer()},
                 settings => map(), settings_hash => binary()}.
-type partner() :: map().
%% What a partner asks for that a server may be unable to give.
-type mark() :: no_tls | no_sasl | dialback | keep_alive | proxy | unverified.
-export_type([set/0, partner/0, mark/0]).

%% ------------------------------------------------------------------ what a value may be

is_boolean_(V) -> is_boolean(V).
is_text(V) -> is_binary(V) andalso V =/= <<>>.
is_from(Least) -> fun(V) -> is_integer(V) andalso V >= Least end.
is_one_of(List) -> fun(V) -> lists:member(V, List) end.
is_list_of(Fits) -> fun(V) -> is_list(V) andalso V =/= [] andalso lists:all(Fits, V) end.
%% The form in which ejabberd looks a name up; another one would silently never match.
is_prepared_name(V) -> is_text(V) andalso jid:nameprep(V) =:= V.
%% U-labels may have characters that are newer than nameprep. By such a name nobody can come here.
is_name(V) -> is_prepared_name(V) orelse is_text(V) andalso lists:any(fun(Byte) -> Byte > 127 end, binary_to_list(V)).
is_file_name(V) -> is_text(V) andalso filename:basename(V) =:= V andalso binary:first(V) =/= $..
is_method() -> is_one_of([<<"SASL_OVER_TLS">>, <<"DIALBACK_OVER_TLS">>, <<"DIALBACK_OVER_TCP">>]).

header_shape() ->
    {#{<<"partnerd">> => is_from(1), <<"generation">> => is_from(0), <<"digest">> => fun is_text/1,
       <<"partners">> => is_from(0), <<"bytes">> => is_from(0)}, #{}}.

delta_shape() ->
    {#{<<"base">> => fun is_text/1, <<"generation">> => is_from(0), <<"digest">> => fun is_text/1,
       <<"lines">> => is_from(0)}, #{}}.

removal_shape() -> {#{<<"remove">> => fun is_text/1}, #{}}.

settings_shape() ->
    Seconds = is_from(1),
    {#{<<"mode">> => is_one_of([<<"ALLOW_LISTED">>, <<"DENY_ALL">>, <<"ALLOW_ALL_EXCEPT_SUSPENDED">>]),
       <<"connection_limit">> => is_from(0), <<"partner_connection_limit">> => is_from(0),
       <<"keep_alive_interval">> => Seconds, <<"stream_establishment_timeout">> => Seconds,
       <<"stream_inactivity_timeout">> => Seconds, <<"subscription_refresh_interval">> => Seconds,
       <<"message_body_logging_enabled">> => fun is_boolean_/1,
       <<"unlisted_methods">> => is_list_of(is_method()),
       <<"staleness_lease">> => Seconds,
       <<"staleness_policy">> => is_one_of([<<"KEEP">>, <<"DENY_ALL">>])},
     #{<<"dialback_passphrase">> => fun is_file_name/1}}.

partner_shape() ->
    {#{<<"domain">> => fun is_prepared_name/1, <<"names">> => is_list_of(fun is_name/1),
       <<"methods">> => is_list_of(is_method()),
       <<"partner_type">> => is_one_of([<<"PUBLIC_UNVERIFIED">>, <<"PUBLIC_VERIFIED">>, <<"FEDERATED">>]),
       <<"keep_alive_enabled">> => fun is_boolean_/1},
     #{<<"connection_limit">> => is_from(1), <<"proxy_fqdn">> => fun is_text/1,
       <<"suspended">> => is_one_of([true]), <<"expire_time">> => is_from(0)}}.

%% An unknown key is refused: a rule that is not understood is not enforced.
checked(Object, {Required, Optional}) ->
    [refuse("~ts is missing", [Key]) || Key <- maps:keys(Required), not is_map_key(Key, Object)],
    Rules = maps:merge(Required, Optional),
    maps:foreach(
      fun(Key, Value) ->
              case Rules of
                  #{Key := Fits} -> Fits(Value) orelse refuse("~ts has a value that is not allowed", [Key]);
                  #{} -> refuse("~ts is not known here", [Key])
              end
      end, Object),
    Object.

refuse(Format, Arguments) ->
    throw({refused, unicode:characters_to_binary(io_lib:format(Format, Arguments))}).

%% ------------------------------------------------------------------ lines

decode(Line) ->
    try jiffy:decode(Line, [return_maps]) of
        Object when is_map(Object) -> Object;
        _ -> refuse("a line is not a JSON object", [])
    catch
        error:_ -> refuse("a line is not JSON", []);
        throw:{error, _} -> refuse("a line is not JSON", [])
    end.

parse(Line) ->
    case decode(Line) of
        #{<<"domain">> := _} = Object -> {partner, partner(checked(Object, partner_shape()), Line)};
        #{<<"mode">> := _} = Object -> {settings, checked(Object, settings_shape())};
        #{<<"remove">> := Domain} = Object -> checked(Object, removal_shape()), {removal, Domain};
        #{} -> refuse("a line is neither settings nor a partner nor a removal", [])
    end.

partner(#{<<"domain">> := Domain, <<"names">> := Names, <<"methods">> := Methods} = Object, Line) ->
    (methods(Methods))#{
      domain => Domain, names => lists:filter(fun is_prepared_name/1, Names), hash => hash(Line),
      type => maps:get(<<"partner_type">>, Object), keep_alive => maps:get(<<"keep_alive_enabled">>, Object),
      limit => maps:get(<<"connection_limit">>, Object, undefined),
      proxy => maps:get(<<"proxy_fqdn">>, Object, undefined),
      suspended => maps:get(<<"suspended">>, Object, false),
      expires => maps:get(<<"expire_time">>, Object, infinity)}.

methods(Names) ->
    #{sasl => lists:member(<<"SASL_OVER_TLS">>, Names),
      dialback_tls => lists:member(<<"DIALBACK_OVER_TLS">>, Names),
      dialback_tcp => lists:member(<<"DIALBACK_OVER_TCP">>, Names)}.

-spec header(binary()) -> map().
header(Line) ->
    case checked(decode(Line), header_shape()) of
        #{<<"partnerd">> := ?FORMAT} = Header -> Header;
        #{<<"partnerd">> := Other} -> refuse("the file has format ~b, this module reads format ~b", [Other, ?FORMAT])
    end.

-spec delta_header(binary()) -> map().
delta_header(Line) ->
    case checked(decode(Line), delta_shape()) of
        #{<<"lines">> := Lines} when Lines > ?MOST_DELTA_LINES ->
            refuse("a delta has ~b lines; more than ~b need a new base", [Lines, ?MOST_DELTA_LINES]);
        Header -> Header
    end.

%% ------------------------------------------------------------------ digest

hash(Line) -> crypto:hash(sha256, Line).

combine(A, B) -> crypto:exor(A, B).

hex(Bytes) -> << <<(integer_to_binary(Nibble, 16))/binary>> || <<Nibble:4>> <= Bytes >>.

%% The digest as the file writes it; empty when there is no content.
-spec digest(set()) -> binary().
digest(#{settings := _, digest := Digest}) -> string:lowercase(hex(Digest));
digest(#{}) -> <<>>.

%% ------------------------------------------------------------------ the set

-spec new() -> set().
new() ->
    Options = [set, public, {read_concurrency, true}],
    #{generation => -1, digest => <<0:256>>, count => 0, marked => #{},
      names => ets:new(s2s_partners_names, Options), partners => ets:new(s2s_partners, Options),
      marks => ets:new(s2s_partners_marks, [ordered_set, public]),
      expiries => ets:new(s2s_partners_expiries, [ordered_set, public])}.

-spec delete(set()) -> ok.
delete(Set) ->
    [ets:delete(maps:get(Table, Set)) || Table <- [names, partners, marks, expiries]],
    ok.

insert(#{domain := Domain, names := Own, expires := At} = Partner, Set) ->
    #{names := Names, partners := Partners, marks := Marks, expiries := Expiries, count := Count, marked := Marked} = Set,
    ets:insert(Partners, {Domain, Partner}),
    ets:insert(Names, [{Name, Domain} || Name <- Own]),
    ets:insert(Marks, [{{Mark, Domain}} || Mark <- marks(Partner)]),
    [ets:insert(Expiries, {{At, Domain}}) || is_integer(At)],
    Set#{count := Count + 1, marked := add_marks(1, Partner, Marked)}.

%% Drops what is left of `Old` after the partners in `Come`, by domain, were inserted: streams look up
%% while this goes on, and who is allowed before and after must be so in between.
drop(#{domain := Domain} = Old, Come, Set) ->
    #{names := Names, partners := Partners, marks := Marks, expiries := Expiries, count := Count, marked := Marked} = Set,
    {OwnNames, OwnMarks, OwnExpiries} = traces(Old),
    {NewNames, NewMarks, NewExpiries} = case Come of
                                            #{Domain := New} -> traces(New);
                                            #{} -> ets:delete(Partners, Domain), {[], [], []}
                                        end,
    [ets:delete_object(Names, {Name, Domain}) || Name <- OwnNames -- NewNames],
    [ets:delete(Marks, {Mark, Domain}) || Mark <- OwnMarks -- NewMarks],
    [ets:delete(Expiries, {At, Domain}) || At <- OwnExpiries -- NewExpiries],
    Set#{count := Count - 1, marked := add_marks(-1, Old, Marked)}.

traces(#{names := Names, expires := At} = Partner) ->
    {Names, marks(Partner), [At || is_integer(At)]}.

marks(#{sasl := Sasl, dialback_tls := Tls, dialback_tcp := Tcp} = Partner) ->
    [Mark || {Mark, true} <- [{no_tls, not (Sasl orelse Tls)}, {no_sasl, Tls andalso not Sasl}, {dialback, Tls orelse Tcp},
                              {keep_alive, maps:get(keep_alive, Partner)},
                              {proxy, maps:get(proxy, Partner) =/= undefined},
                              {unverified, maps:get(type, Partner) =:= <<"PUBLIC_UNVERIFIED">>}]].

add_marks(Number, Partner, Marked) ->
    lists:foldl(fun(Mark, Counts) -> maps:update_with(Mark, fun(N) -> N + Number end, Number, Counts) end, Marked, marks(Partner)).

lookup(Table, Key) ->
    case ets:lookup(Table, Key) of
        [{_, Value}] -> Value;
        [] -> undefined
    end.

%% Adds one line of a base that is being built.
-spec add_line(binary(), set()) -> set().
add_line(Line, #{digest := Digest} = Set) ->
    case {parse(Line), Set} of
        {{settings, _}, #{settings := _}} -> refuse("the settings are there twice", []);
        {{settings, Settings}, _} ->
            Set#{settings => Settings, settings_hash => hash(Line), digest := combine(Digest, hash(Line))};
        {{partner, Partner}, #{settings := _}} ->
            #{domain := Domain, names := Own, hash := Hash} = Partner,
            #{names := Names, partners := Partners} = Set,
            ets:member(Partners, Domain) andalso refuse("~ts is there twice", [Domain]),
            [refuse("~ts of ~ts belongs to another partner", [Name, Domain]) || Name <- Own, ets:member(Names, Name)],
            insert(Partner, Set#{digest := combine(Digest, Hash)});
        _ -> refuse("settings come first, then partners", [])
    end.

%% The base is complete: does it agree with its header?
-spec finish(map(), set()) -> set().
finish(#{<<"digest">> := Expected, <<"generation">> := Generation}, Set) ->
    digest(Set) =:= Expected orelse refuse("the base's digest does not agree with its content", []),
    Set#{generation := Generation}.

%% The set under the generation of a base that has its content, or `false`.
-spec renewed(map(), set()) -> set() | false.
renewed(#{<<"digest">> := Digest, <<"partners">> := Count, <<"generation">> := Generation}, #{count := Count} = Set) ->
    digest(Set) =:= Digest andalso Set#{generation := Generation};
renewed(_, _) -> false.

%% Puts a delta in force, whole or not at all.
-spec apply_delta(map(), [binary()], set()) -> set().
apply_delta(#{<<"base">> := Base, <<"generation">> := Generation, <<"digest">> := After}, Lines, Set) ->
    #{generation := Before} = Set,
    Base =:= digest(Set) orelse refuse("the delta to generation ~b is for another base", [Generation]),
    Generation >= Before orelse refuse("generation ~b comes after ~b", [Generation, Before]),
    Parsed = [{parse(Line), Line} || Line <- Lines],
    Touched = touched(Parsed, Set),
    Come = [Partner || {{partner, Partner}, _} <- Parsed],
    names_are_free(Come, Touched, Set),
    Gone = [Old || Old <- maps:values(Touched), Old =/= new],
    Digest = lists:foldl(fun(#{hash := Hash}, Sum) -> combine(Sum, Hash) end, digest_with_settings(Parsed, Set), Gone ++ Come),
    string:lowercase(hex(Digest)) =:= After orelse refuse("the delta to generation ~b does not lead to its digest", [Generation]),
    ByDomain = maps:from_list([{Domain, Partner} || #{domain := Domain} = Partner <- Come]),
    Inserted = lists:foldl(fun insert/2, Set, Come),
    Changed = lists:foldl(fun(Old, Rest) -> drop(Old, ByDomain, Rest) end, Inserted, Gone),
    with_settings(Parsed, Changed#{digest := Digest, generation := Generation}).

%% The domains of the delta with the partner that is there now, or `new`.
touched(Parsed, #{partners := Partners}) ->
    lists:foldl(
      fun({{settings, _}, _}, Touched) -> Touched;
         ({What, _}, Touched) ->
              {Domain, IsRemoval} = case What of {partner, #{domain := D}} -> {D, false}; {removal, D} -> {D, true} end,
              is_map_key(Domain, Touched) andalso refuse("~ts is in the delta twice", [Domain]),
              case lookup(Partners, Domain) of
                  undefined when IsRemoval -> refuse("~ts cannot be removed, it is not there", [Domain]);
                  undefined -> Touched#{Domain => new};
                  Old -> Touched#{Domain => Old}
              end
      end, #{}, Parsed).

%% Names are judged as the delta leaves them, so that they may move from one partner to another.
names_are_free(Come, Touched, #{names := Names}) ->
    lists:foldl(
      fun({Name, Domain}, Taken) ->
              Owner = maps:get(Name, Taken, lookup(Names, Name)),
              IsFree = Owner =:= undefined orelse (not is_map_key(Name, Taken) andalso is_map_key(Owner, Touched)),
              IsFree orelse refuse("~ts belongs to ~ts already", [Name, Owner]),
              Taken#{Name => Domain}
      end, #{}, [{Name, Domain} || #{domain := Domain, names := Own} <- Come, Name <- Own]).

digest_with_settings(Parsed, #{digest := Digest} = Set) ->
    case [Line || {{settings, _}, Line} <- Parsed] of
        [] -> Digest;
        [Line] -> combine(combine(Digest, maps:get(settings_hash, Set)), hash(Line));
        _ -> refuse("the settings are in the delta twice", [])
    end.

with_settings(Parsed, Set) ->
    case [{Settings, Line} || {{settings, Settings}, Line} <- Parsed] of
        [] -> Set;
        [{Settings, Line}] -> Set#{settings := Settings, settings_hash := hash(Line)}
    end.

%% ------------------------------------------------------------------ questions

%% The partner under whose terms `Name` is allowed at `Now`, or why it is refused.
-spec judge(binary(), integer(), set()) -> {ok, partner()} | {refused, binary()}.
judge(Name, Now, #{settings := #{<<"mode">> := Mode} = Settings, names := Names, partners := Partners}) ->
    Domain = lookup(Names, Name),
    case {Mode, Domain =/= undefined andalso lookup(Partners, Domain)} of
        {<<"DENY_ALL">>, _} -> {refused, <<"Federation is switched off">>};
        {_, #{suspended := true}} -> {refused, <<"Federation with this domain is suspended">>};
        {_, #{expires := At}} when is_integer(At), Now >= At -> {refused, <<"Federation with this domain has expired">>};
        {_, #{} = Partner} -> {ok, Partner};
        {<<"ALLOW_ALL_EXCEPT_SUSPENDED">>, _} -> {ok, unlisted(Name, Settings)};
        _ -> {refused, <<"Federation with this domain is not allowed">>}
    end;
judge(_, _, _) ->
    {refused, <<"No list of partners is in force">>}.

unlisted(Name, #{<<"unlisted_methods">> := Methods}) ->
    (methods(Methods))#{domain => Name, names => [Name], type => <<"PUBLIC_UNVERIFIED">>, keep_alive => true,
                        limit => undefined, proxy => undefined, suspended => false, expires => infinity}.

%% How many partners have this mark, and the domains of up to ten of them.
-spec census(mark(), set()) -> {non_neg_integer(), [binary()]}.
census(Mark, #{marks := Marks, marked := Marked}) ->
    {maps:get(Mark, Marked, 0), first_domains(10, Mark, {Mark, <<>>}, Marks)}.

first_domains(0, _, _, _) -> [];
first_domains(Most, Mark, After, Marks) ->
    case ets:next(Marks, After) of
        {Mark, Domain} = Key -> [Domain | first_domains(Most - 1, Mark, Key, Marks)];
        _ -> []
    end.

%% The next moment after `Now` at which a partner expires; `infinity` is greater than every number.
-spec next_expiry(integer(), set()) -> integer() | infinity.
next_expiry(Now, #{expiries := Expiries}) ->
    case ets:next(Expiries, {Now + 1, <<>>}) of
        {At, _Domain} -> At;
        '$end_of_table' -> infinity
    end.
