// Words for custody: on what evidence a stay begins and ends, and what each kind of contradiction asks for (docs/modules.md).

export const EVIDENCE = {
  event: "told by the node",
  sighting: "first reading there",
  displaced: "another module answered there",
  elsewhere: "it answered elsewhere",
};

// kind -> [what it is called, how much it matters, what to do]
export const KINDS = {
  two_places: ["In two places", "bad", "Look at the labels of both: two modules have one code, because a BMS was cloned or replaced."],
  two_modules: ["Two modules in a bay", "bad", "Look for two BMSs on one line, or two devices that are configured as one bay."],
  arrival_without_departure: ["Arrived, never left", "warn", "Look for a bay whose line is broken, or for lost events: swapline missing."],
  departure_without_arrival: ["Left, never arrived", "bad", "Find it: in a workshop, stolen, or in a holder without a working node."],
  swap_half_told: ["Half a swap", "warn", "Look at the node that tells nothing of it: it runs, but does not read that bay."],
  moved_while_offline: ["Moved unseen", "warn", "Somebody moved it while the power was off: ask who."],
  code_unusual: ["Unusual code", "off", "Compare it with the label, and set the code in the BMS."],
};

export const kindLabel = (kind) => KINDS[kind]?.[0] ?? kind.replaceAll("_", " ");
export const kindTone = (kind) => KINDS[kind]?.[1] ?? "warn";
export const kindAdvice = (kind) => KINDS[kind]?.[2] ?? "";
