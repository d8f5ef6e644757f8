/** Agents as a part of the API. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { AgentIdInPath, Authorization, changed, created, deleted, list, says, Validation } from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

const agent = { id: AgentIdInPath }

export class AgentsGroup extends HttpApiGroup.make("agents").add(
  HttpApiEndpoint.post("create", "/api/agents", {
    query: waitQuery,
    payload: Resource.NewAgent,
    success: created(changed(Resource.CreatedAgent, "CreatedAgent")),
    error: [Problem.NetworkPoolExhausted, Problem.StoreUnavailable]
  }).annotateMerge(
    says("operate", "Create an agent", "Gives it a subnet, a WireGuard key pair, and its first API key.")
  ),
  list("/api/agents", Resource.Agent, "List agents"),
  HttpApiEndpoint.get("get", "/api/agents/:id", {
    params: agent,
    success: Resource.Agent,
    error: [Problem.AgentNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(says("read", "Get an agent")),
  HttpApiEndpoint.patch("update", "/api/agents/:id", {
    params: agent,
    query: waitQuery,
    payload: Resource.AgentPatch,
    success: changed(Resource.Agent, "ChangedAgent"),
    error: [Problem.AgentNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Change an agent", "What is left out stays.")),
  HttpApiEndpoint.delete("remove", "/api/agents/:id", {
    params: agent,
    query: {
      ...waitQuery,
      cascade: Schema.optionalKey(Schema.Literals(["true", "false"])).annotate({
        description: "`true`: delete its tunnels with it. Else an agent that has tunnels is kept."
      })
    },
    success: deleted,
    error: [Problem.AgentNotFound, Problem.AgentHasTunnels, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Delete an agent", "Its keys are revoked and its connection is closed."))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Agents" })) {}
