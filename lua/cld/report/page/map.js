// The map of the features.

function drawMap() {}
