/** HTTP API endpoint for the event stream. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Authorization, describeEndpoint, Validation } from "./apiParts.ts"
import { ServerSentEvent } from "./events.ts"
import * as Problem from "./problems.ts"

const lastEventId = Schema.String.check(Schema.isMaxLength(256)).annotate({
  description: "Id of the last received event. The stream continues after it."
})

export class EventsGroup extends HttpApiGroup.make("events").add(
  HttpApiEndpoint.get("follow", "/api/events", {
    query: { lastEventId: Schema.optionalKey(lastEventId) },
    headers: { "last-event-id": Schema.optionalKey(lastEventId) },
    success: HttpApiSchema.StreamSse({ events: ServerSentEvent }),
    error: Problem.TooManyFollowers
  }).annotateMerge(describeEndpoint(
    "read",
    "Stream events",
    "Server-sent events (WHATWG HTML, section 9.2), with a comment every 15 seconds. Every node sends the events of all nodes. " +
      "Events of clients on other nodes arrive up to 2 seconds late; of several acknowledgements in that time only the last one arrives. " +
      "A `reset` marks a point where events may be missing: read the lists again."
  ))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Events" })) {}
