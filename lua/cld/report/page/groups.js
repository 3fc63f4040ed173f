// Sizes of the groups.

function drawGroups() {}
