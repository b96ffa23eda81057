// Words for custody: on what evidence a stay begins and ends, and what each kind of contradiction means and asks for.

export const EVIDENCE = {
  event: "told by the node",
  sighting: "first or last reading there",
  displaced: "another module answered there",
  elsewhere: "the module answered elsewhere",
};

// kind -> [what it is called, how much it matters, what to do]. docs/modules.md says more.
export const KINDS = {
  two_places: ["In two places", "bad", "Look for two modules with the same code, or a node whose clock is wrong. Until it is found, figures of this module mix two."],
  two_modules: ["Two modules in a bay", "bad", "Look for crossed wiring, or two nodes that are configured with the same name or bay."],
  arrival_without_departure: ["Arrived, never left", "warn", "Check whether the former holder was without power or link then. Late back-fill may settle it by itself."],
  departure_without_arrival: ["Left, never arrived", "bad", "Find the module: its last holder is known. It may sit where no node reads it, or was taken."],
  swap_half_told: ["Half a swap", "warn", "Check the side that told nothing: its node's wiring to the bay, and whether it still runs."],
  moved_while_offline: ["Moved unseen", "warn", "Ask who moved it. If nobody did, look after the former holder's node."],
  code_unusual: ["Unusual code", "off", "Compare with the label on the module. If the label is right, nothing needs to be done."],
};

export const kindLabel = (kind) => KINDS[kind]?.[0] ?? kind.replaceAll("_", " ");
export const kindTone = (kind) => KINDS[kind]?.[1] ?? "warn";
export const kindAdvice = (kind) => KINDS[kind]?.[2] ?? "";
