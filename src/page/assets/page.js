// What the pages can do beyond what they can without a script: refresh, and pick a range on a chart.
"use strict";
