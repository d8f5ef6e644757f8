/** HTTP API endpoints for agents. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import {
  Authorization,
  changeResponse,
  createdResponse,
  deletedResponse,
  describeEndpoint,
  listEndpoint,
  Validation
} from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import { clientFilters } from "./listFilters.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

const agent = { id: Resource.AgentReference }

export class AgentsGroup extends HttpApiGroup.make("agents").add(
  HttpApiEndpoint.post("create", "/api/agents", {
    query: waitQuery,
    payload: Resource.NewAgent,
    success: createdResponse(changeResponse(Resource.CreatedAgent, "CreatedAgent")),
    error: [Problem.NameTaken, Problem.NetworkPoolExhausted, Problem.StoreUnavailable]
  }).annotateMerge(
    describeEndpoint("operate", "Create an agent", "Assigns a subnet, a WireGuard key pair and the first API key.")
  ),
  listEndpoint("/api/agents", Resource.Agent, "List agents", clientFilters),
  HttpApiEndpoint.get("get", "/api/agents/:id", {
    params: agent,
    success: Resource.AgentDetails,
    error: [Problem.AgentNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("read", "Get an agent")),
  HttpApiEndpoint.patch("update", "/api/agents/:id", {
    params: agent,
    query: waitQuery,
    payload: Resource.AgentPatch,
    success: changeResponse(Resource.Agent, "ChangedAgent"),
    error: [Problem.AgentNotFound, Problem.NameTaken, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("operate", "Change an agent", "Omitted fields keep their values.")),
  HttpApiEndpoint.delete("remove", "/api/agents/:id", {
    params: agent,
    query: {
      ...waitQuery,
      cascade: Schema.optionalKey(Schema.Literals(["true", "false"])).annotate({
        description:
          "`true`: also delete the agent's tunnels. Otherwise an agent that has tunnels is not deleted (409)."
      })
    },
    success: deletedResponse,
    error: [Problem.AgentNotFound, Problem.AgentHasTunnels, Problem.StoreUnavailable]
  }).annotateMerge(
    describeEndpoint("operate", "Delete an agent", "Revokes the agent's API keys and closes its connection.")
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Agents" })) {}
