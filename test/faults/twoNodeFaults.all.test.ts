/** Tests of three faults with two nodes. `npm run faults` runs all forty. */
import { describeFaults } from "./describeFaults.ts"

describeFaults("faults with two nodes", {
  F17: "a node that was paused evicts no client",
  F18: "clients of a killed node connect to another node and are shown online",
  F28: "clones with one key have one session at a time and affect no other client"
})
